package chain_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"

	"github.com/purserhq/purser/services/wallet/internal/chain"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

// withoutMulticall makes a node one of a chain that has no Multicall3: nothing is at its address. The balance of a
// token is the first byte of its contract, that of the native coin 202.
func withoutMulticall(n *node) *node {
	n.code = func(contract common.Address) any {
		if contract == common.HexToAddress("0xcA11bde05977b3631167028862bE2a173976CA11") {
			return "0x"
		}
		return "0x6000"
	}
	n.plain = func(contract common.Address, _ json.RawMessage) any {
		switch contract {
		case common.Address{}:
			return "0xca"
		case common.HexToAddress("0xcA11bde05977b3631167028862bE2a173976CA11"):
			return "0x"
		}
		return hexutil.Bytes(common.LeftPadBytes(contract[:1], 32))
	}
	return n
}

// So it is on a new chain of anvil, hardhat and ganache.
func TestWithoutMulticall3BalancesAreReadByBatches(t *testing.T) {
	n := withoutMulticall(newNode(t))
	all := append(tokens(60), token.Token{ID: "native", Chain: 1, Native: true})
	r := newReader(t, 20, n.URL)
	got, err := r.read(t, all)
	if err != nil || !strings.HasPrefix(amounts(got), "1 2 3 ") || !strings.HasSuffix(amounts(got), " 60 202") {
		t.Fatalf("read %s, %v", amounts(got), err)
	}
	if n.asked() > 20 {
		t.Errorf("%d requests for 61 balances: they were not read in batches", n.asked())
	}
	if r.log.Len() > 0 {
		t.Errorf("logged %s", r.log)
	}
	t.Run("from a node that takes no batches", func(t *testing.T) {
		n := withoutMulticall(newNode(t))
		n.batch = noBatches
		got, err := newReader(t, 20, n.URL).read(t, all)
		if err != nil || !strings.HasSuffix(amounts(got), " 60 202") {
			t.Errorf("read %s, %v", amounts(got), err)
		}
	})
	t.Run("some of which can't be read", func(t *testing.T) {
		n := withoutMulticall(newNode(t))
		sound := n.plain
		n.plain = func(contract common.Address, block json.RawMessage) any {
			switch contract[0] {
			case 2:
				return fault{3, "execution reverted"}
			case 3:
				return fault{-32603, "EVM error InvalidFEOpcode"}
			case 4:
				return "0x"
			case 5:
				return "0x" + strings.Repeat("00", 31)
			}
			return sound(contract, block)
		}
		if got, err := newReader(t, 20, n.URL).read(t, tokens(6)); err != nil || amounts(got) != "1 - - - - 6" {
			t.Errorf("read %s, %v", amounts(got), err)
		}
	})
	t.Run("in the past", func(t *testing.T) {
		n := withoutMulticall(withPast(newNode(t)))
		got, err := newReader(t, 10, n.URL).readAt(t, 2, hourOf(40), hourOf(41), hourOf(42))
		if err != nil || readingText(got[0]) != "40: 1 2 1 2" || readingText(got[2]) != "42: 1 2 1 2" {
			t.Errorf("read %s and %s, %v", readingText(got[0]), readingText(got[2]), err)
		}
	})
	t.Run("by the state that is gone", func(t *testing.T) {
		n := withoutMulticall(withPast(newNode(t)))
		n.plain = func(common.Address, json.RawMessage) any { return fault{-32000, "missing trie node"} }
		got, err := newReader(t, 10, n.URL).readAt(t, 2, hourOf(40))
		if err != nil || !strings.Contains(got[0].Error, "archive node") {
			t.Errorf("read %s, %v", readingText(got[0]), err)
		}
	})
	t.Run("asked too often", func(t *testing.T) {
		n := withoutMulticall(newNode(t))
		n.plain = func(contract common.Address, _ json.RawMessage) any {
			if contract == common.HexToAddress(chain.Multicall3) {
				return "0x"
			}
			return fault{-32005, "limit exceeded"}
		}
		r := newReader(t, 20, n.URL)
		_, err := r.read(t, tokens(2))
		const why = "each balance was asked for alone, since the chain has no Multicall3"
		if e := unavailable(t, err); e.Metadata["node_reasons"] != "1=RATE_LIMITED" ||
			!strings.HasSuffix(e.Message, `"limit exceeded"; `+why) || !strings.Contains(r.log.String(), why) {
			t.Errorf("told %q, %v; logged %s", e.Message, e.Metadata, r.log)
		}
	})
	t.Run("control: with Multicall3 nothing is said of it", func(t *testing.T) {
		n := newNode(t)
		n.answer = func([]common.Address) any { return fault{-32005, "limit exceeded"} }
		_, err := newReader(t, 20, n.URL).read(t, tokens(2))
		if e := unavailable(t, err); strings.Contains(e.Message, "Multicall3") {
			t.Errorf("told %q", e.Message)
		}
	})
	t.Run("with a bound of the gas", func(t *testing.T) {
		for name, bend := range map[string]func(*node) *node{"alone": withoutMulticall,
			"together": func(n *node) *node { return n }} {
			n := bend(newNode(t))
			var unbound, bound atomic.Int32
			n.raw = func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				calls, gases := bytes.Count(body, []byte(`"eth_call"`)), bytes.Count(body, []byte(`"gas":"0x`))
				bound.Add(int32(gases))
				unbound.Add(int32(calls - gases))
				r.Body = io.NopCloser(bytes.NewReader(body))
				n.serve(w, r)
			}
			if _, err := newReader(t, 20, n.URL).read(t, tokens(3)); err != nil || bound.Load() == 0 ||
				unbound.Load() != 0 {
				t.Errorf("%s: %d calls with gas, %d without, %v", name, bound.Load(), unbound.Load(), err)
			}
		}
	})
}

// A caller learns what is wrong with each node, and nothing of its URL but the provider.
func TestTheErrorNamesTheCauseOfEachNode(t *testing.T) {
	bad := func(bend func(*node)) string {
		n := newNode(t)
		bend(n)
		return n.URL
	}
	status := func(code int) string {
		return bad(func(n *node) {
			n.raw = func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no, hunter2", code) }
		})
	}
	closed := newNode(t)
	closed.Close()
	secret := "/v2/hunter2?key=hunter2"
	for name, tc := range map[string]struct{ url, want, reason string }{
		"another chain": {bad(func(n *node) { n.id = "0x5" }), "is of chain 5, not 1", "WRONG_CHAIN"},
		"a wrong key": {status(401),
			"answers 401 Unauthorized: the key or the credentials in its URL are not accepted", "UNAUTHORIZED"},
		"too often":    {status(429), "answers 429 Too Many Requests: it is called too often", "RATE_LIMITED"},
		"out of order": {status(500), "answers 500 Internal Server Error", "INVALID_ANSWER"},
		"a redirect": {bad(func(n *node) {
			n.raw = func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "https://hunter2.example.com/hunter2", http.StatusTemporaryRedirect)
			}
		}), "redirects to another URL of example.com, which is not followed", "REDIRECTS"},
		"a refused call": {bad(func(n *node) { n.head = fault{-32601, "the method is not on your plan"} }),
			`refuses a call with error -32601, "the method is not on your plan"`, "REFUSED"},
		"a clock that is ahead": {bad(func(n *node) { n.head = blockJSON(100, noon().Add(3*time.Hour)) }),
			"has a newest block, 100, that is 3h0m0s in the future: its clock or that of this service is wrong",
			"BLOCK_IN_FUTURE"},
		"nobody there": {closed.URL, "refuses the connection", "UNREACHABLE"},
		"no name":      {"http://node.invalid", "(node.invalid) has a host name that is not found", "UNREACHABLE"},
		"a page": {bad(func(n *node) {
			n.raw = func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>hunter2</html>")) }
		}), "does not answer with JSON-RPC", "INVALID_ANSWER"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReader(t, 10, tc.url+secret, status(503)+secret)
			_, err := r.read(t, tokens(1))
			e := unavailable(t, err)
			if !strings.HasPrefix(e.Message, "no node of chain eip155:1 can be read: node 1 ") ||
				!strings.Contains(e.Message, tc.want+"; node 2 answers 503 Service Unavailable") {
				t.Errorf("answered %q", e.Message)
			}
			if e.Metadata["node_reasons"] != "1="+tc.reason+",2=UNREACHABLE" {
				t.Errorf("for programs: %v", e.Metadata)
			}
			if strings.Contains(err.Error()+r.log.String(), "hunter2") || strings.Contains(e.Message, "127.0.0.1") {
				t.Errorf("told: %v; %s", err, r.log)
			}
		})
	}
}
