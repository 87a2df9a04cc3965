package chain_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/wallet/internal/balancesync"
	"github.com/purserhq/purser/services/wallet/internal/chain"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

type reader struct {
	*chain.Reader
	now time.Time
	log *bytes.Buffer
}

// newReader reads chain 1 from these nodes, in this order.
func newReader(t testing.TB, chunk int, urls ...string) *reader {
	t.Helper()
	r := &reader{now: noon(), log: &bytes.Buffer{}}
	var err error
	r.Reader, err = chain.NewReader(chain.Options{
		Nodes: map[uint64][]string{1: urls}, ChunkSize: chunk,
		Log: slog.New(slog.NewTextHandler(r.log, nil)), Now: func() time.Time { return r.now },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func (r *reader) read(t testing.TB, tokens []token.Token) (balancesync.Reading, error) {
	t.Helper()
	return r.Read(t.Context(), 1, 0, common.Address{19: 0xaa}, tokens)
}

// amounts are the balances as text, "-" for one that was not read.
func amounts(r balancesync.Reading) string {
	var out []string
	for _, a := range r.Amounts {
		if a == nil {
			out = append(out, "-")
		} else {
			out = append(out, a.Dec())
		}
	}
	return strings.Join(out, " ")
}

// unavailable fails the test unless no node was believed.
func unavailable(t *testing.T, err error) *errs.Error {
	t.Helper()
	e := errs.As(err)
	if e == nil || e.Kind != errs.KindUnavailable || e.Reason != "CHAIN_UNAVAILABLE" || e.RetryAfter <= 0 {
		t.Fatalf("answered %v, want CHAIN_UNAVAILABLE", err)
	}
	return e
}

func TestBalancesAreReadAtTheBlockThatTheNodeNames(t *testing.T) {
	n := newNode(t)
	native := token.Token{ID: "native", Chain: 1, Native: true}
	got, err := newReader(t, 10, n.URL).read(t, append(tokens(3), native))
	if err != nil {
		t.Fatal(err)
	}
	// The native coin is asked of Multicall3 itself, at 0xcA11….
	if amounts(got) != "1 2 3 202" {
		t.Errorf("balances %s", amounts(got))
	}
	if got.Block.Number != 100 || common.Hash(got.Block.Hash).Hex() != blockHash || !got.Block.Time.Equal(noon()) {
		t.Errorf("block %+v", got.Block)
	}
	if len(n.blocks) != 1 {
		t.Errorf("asked at %v", n.blocks)
	}
	for b := range n.blocks {
		if !strings.Contains(b, blockHash) {
			t.Errorf("asked at %s, not by the block's hash", b)
		}
	}
}

func TestANodeThatIsDownIsSkippedAndGetsACooldown(t *testing.T) {
	down, up := newNode(t), newNode(t)
	down.raw = func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "busy", http.StatusTooManyRequests) }
	r := newReader(t, 10, down.URL, up.URL)
	for range 3 {
		if got, err := r.read(t, tokens(2)); err != nil || amounts(got) != "1 2" {
			t.Fatal(amounts(got), err)
		}
	}
	if down.asked() != 1 {
		t.Errorf("the node that is down was asked %d times in its cooldown", down.asked())
	}
	down.raw = nil
	r.now = r.now.Add(15 * time.Second)
	if _, err := r.read(t, tokens(2)); err != nil {
		t.Fatal(err)
	}
	if down.asked() == 1 {
		t.Error("the node is not used after its cooldown")
	}
}

func TestANodeInCooldownIsUsedWhenThereIsNoOther(t *testing.T) {
	n := newNode(t)
	n.head = fault{-32000, "starting"}
	r := newReader(t, 10, n.URL)
	_, err := r.read(t, tokens(1))
	unavailable(t, err)
	n.head = blockJSON(101, noon())
	if got, err := r.read(t, tokens(1)); err != nil || got.Block.Number != 101 {
		t.Error(got, err)
	}
}

func TestNodesThatAreNotBelieved(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 1<<20)
	short := func(results int) func(t *testing.T, n *node) {
		return func(t *testing.T, n *node) {
			n.answer = func([]common.Address) any { return n.results(t, make([]chain.Result, results)) }
		}
	}
	set := func(head any) func(*testing.T, *node) { return func(_ *testing.T, n *node) { n.head = head } }
	answer := func(v any) func(*testing.T, *node) {
		return func(_ *testing.T, n *node) { n.answer = func([]common.Address) any { return v } }
	}
	raw := func(status int, body string) func(*testing.T, *node) {
		return func(_ *testing.T, n *node) {
			n.raw = func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(status)
				_, _ = w.Write([]byte(body))
			}
		}
	}
	future := noon().Add(2*time.Minute + time.Second)
	for _, tc := range []struct {
		name string
		bend func(*testing.T, *node)
	}{
		{"a node of another chain", func(_ *testing.T, n *node) { n.id = "0x89" }},
		{"a chain id past 64 bits", func(_ *testing.T, n *node) { n.id = "0x10000000000000001" }},
		{"a newest block in the future", set(blockJSON(100, future))},
		{"no newest block", set(nil)},
		{"a block without a hash", set(map[string]any{"number": "0x1", "timestamp": "0x1"})},
		{"a block without a number", set(map[string]any{"hash": blockHash, "timestamp": "0x1"})},
		{"a block without a time", set(map[string]any{"hash": blockHash, "number": "0x1"})},
		{"a block number past 63 bits", set(map[string]any{"hash": blockHash, "number": "0xffffffffffffffff",
			"timestamp": "0x1"})},
		{"a block time past 63 bits", set(map[string]any{"hash": blockHash, "number": "0x1",
			"timestamp": "0xffffffffffffffff"})},
		{"a block time that wraps round to the past",
			set(map[string]any{"hash": blockHash, "number": "0x1", "timestamp": "0x7fffffffffffffff"})},
		{"a block time past 64 bits", set(map[string]any{"hash": blockHash, "number": "0x1",
			"timestamp": "0x1ffffffffffffffff"})},
		{"a block that is a list", set([]int{1})},
		{"fewer results than were asked for", short(2)},
		{"more results than were asked for", short(4)},
		{"no results", short(0)},
		{"garbage for results", answer("0xdeadbeef")},
		{"an offset past the end for results", answer("0x" + strings.Repeat("ff", 64))},
		{"nothing for results, as where there is no Multicall3", answer("0x")},
		{"text for results", answer("hello")},
		{"every call failed", short(3)},
		{"asked too often", answer(fault{-32005, "limit exceeded"})},
		{"no JSON", raw(200, "<html>")},
		{"an empty body", raw(200, "")},
		{"half a reply", raw(200, `{"jsonrpc":"2.0","id":1,"result":"0x`)},
		{"a server error with a long text", raw(500, long)},
		{"an endless reply", func(_ *testing.T, n *node) {
			n.raw = func(w http.ResponseWriter, _ *http.Request) {
				_, _ = w.Write([]byte(`{"jsonrpc":"2.0","id":1,"result":"0x`))
				for range 20 { // past the bound of 16 MiB
					_, _ = w.Write(bytes.Repeat([]byte("0"), 1<<20))
				}
				_, _ = w.Write([]byte(`"}`))
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			hostile, sound := newNode(t), newNode(t)
			tc.bend(t, hostile)
			_, err := newReader(t, 10, hostile.URL).read(t, tokens(3))
			unavailable(t, err)
			r := newReader(t, 10, hostile.URL, sound.URL)
			if got, err := r.read(t, tokens(3)); err != nil || amounts(got) != "1 2 3" {
				t.Errorf("with a sound node beside it: %s, %v", amounts(got), err)
			}
			if r.log.Len() > 1000 {
				t.Errorf("the log has %d bytes of it", r.log.Len())
			}
		})
	}
}

func TestATokenThatCanNotBeReadIsUnreadAndNotZero(t *testing.T) {
	word := common.LeftPadBytes([]byte{7}, 32)
	for _, tc := range []struct {
		name   string
		result chain.Result
		want   string
	}{
		{"the control", chain.Result{Success: true, ReturnData: word}, "7"},
		{"a zero is a zero", chain.Result{Success: true, ReturnData: make([]byte, 32)}, "0"},
		{"the most that there is", chain.Result{Success: true, ReturnData: bytes.Repeat([]byte{0xff}, 32)},
			"115792089237316195423570985008687907853269984665640564039457584007913129639935"},
		{"a call that failed", chain.Result{ReturnData: word}, "-"},
		{"an empty answer, as of no contract", chain.Result{Success: true}, "-"},
		{"an answer of 31 bytes", chain.Result{Success: true, ReturnData: word[1:]}, "-"},
		{"an answer of 64 bytes", chain.Result{Success: true, ReturnData: append(word, word...)}, "-"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := newNode(t)
			n.answer = func([]common.Address) any {
				return n.results(t, []chain.Result{{Success: true, ReturnData: word}, tc.result})
			}
			got, err := newReader(t, 10, n.URL).read(t, tokens(2))
			if err != nil || amounts(got) != "7 "+tc.want {
				t.Errorf("read %s, %v; want %s", amounts(got), err, tc.want)
			}
		})
	}
}

// A node that takes 30 ms a call has 25 calls to answer, in a limit of half a
// second and what each call adds to it.
func TestASlowNodeHasTimeForEveryCallOfABatch(t *testing.T) {
	t.Parallel()
	holders := []common.Address{{1}, {2}, {3}, {4}, {5}}
	for name, each := range map[string]time.Duration{"each call has its time": time.Second,
		"control: the limit is the same for all": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			sound := n.answer
			n.answer = func(targets []common.Address) any {
				<-time.After(30 * time.Millisecond)
				return sound(targets)
			}
			r := newReader(t, 10, n.URL)
			r.SetTimeouts(500*time.Millisecond, each)
			var requests []balancesync.Request
			for _, h := range holders {
				requests = append(requests, balancesync.Request{Holder: h, Tokens: tokens(50)})
			}
			got, err := r.ReadBatch(t.Context(), 1, 0, requests)
			if each == 0 {
				unavailable(t, err)
			} else if err != nil || len(got) != 5 || len(n.chunks) != 25 {
				t.Errorf("read %d accounts in %d calls: %v", len(got), len(n.chunks), err)
			}
		})
	}
}

func TestAChunkThatIsRefusedIsHalvedUntilItFits(t *testing.T) {
	for _, refusal := range []string{"with a JSON-RPC error", "with status 413"} {
		t.Run(refusal, func(t *testing.T) {
			n := newNode(t)
			sound := n.answer
			n.answer = func(targets []common.Address) any {
				if len(targets) > 3 {
					return fault{-32000, "out of gas"}
				}
				return sound(targets)
			}
			if refusal == "with status 413" {
				n.answer, n.limit = sound, 1500
			}
			got, err := newReader(t, 20, n.URL).read(t, tokens(23))
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for i := range 23 {
				want = append(want, fmt.Sprint(i+1))
			}
			if amounts(got) != strings.Join(want, " ") || len(n.chunks) < 3 {
				t.Errorf("read %s in chunks %v", amounts(got), n.chunks)
			}
		})
	}
}

func TestACallThatIsRefusedAloneIsOneBalanceUnread(t *testing.T) {
	n := newNode(t)
	sound := n.answer
	n.answer = func(targets []common.Address) any {
		for _, target := range targets {
			if target[0] == 5 {
				return fault{3, "execution reverted"}
			}
		}
		return sound(targets)
	}
	got, err := newReader(t, 8, n.URL).read(t, tokens(8))
	if err != nil || amounts(got) != "1 2 3 4 - 6 7 8" {
		t.Errorf("read %s, %v", amounts(got), err)
	}
}

func TestWithoutANodeTheChainIsNotConfigured(t *testing.T) {
	_, err := newReader(t, 10, newNode(t).URL).Read(t.Context(), 137, 0, common.Address{}, tokens(1))
	if e := errs.As(err); e == nil || e.Kind != errs.KindFailedPrecondition || e.Reason != "CHAIN_NOT_CONFIGURED" ||
		!strings.Contains(e.Message, "eip155:137") {
		t.Errorf("answered %v", err)
	}
}

func TestACallerWhoGoesAwayIsNotTheNodesFault(t *testing.T) {
	n := newNode(t)
	r := newReader(t, 10, n.URL)
	ctx, cancel := context.WithCancel(t.Context())
	n.answer = func([]common.Address) any { cancel(); return "0x" }
	if _, err := r.Read(ctx, 1, 0, common.Address{}, tokens(1)); !errors.Is(err, context.Canceled) {
		t.Errorf("answered %v", err)
	}
	if r.log.Len() > 0 {
		t.Errorf("logged %s", r.log)
	}
}

func TestNoKeyOfANodesURLGetsIntoErrorsOrLogs(t *testing.T) {
	n := newNode(t)
	url := n.URL + "/v2/hunter2?key=hunter2"
	n.Close()
	r := newReader(t, 10, url)
	_, err := r.read(t, tokens(1))
	unavailable(t, err)
	if all := err.Error() + r.log.String(); strings.Contains(all, "hunter2") || !strings.Contains(all, "refused") {
		t.Errorf("told: %s", all)
	}
}

func TestURLsThatAreRefused(t *testing.T) {
	for _, url := range []string{"", "node.example", "ftp://node.example", "http://", "://", "unix:///run/node"} {
		if _, err := chain.NewReader(chain.Options{Nodes: map[uint64][]string{1: {url}}}); err == nil {
			t.Errorf("%q was taken", url)
		}
	}
}

func FuzzAnswersOfMulticall3(f *testing.F) {
	codec, err := chain.NewCodec()
	if err != nil {
		f.Fatal(err)
	}
	good, err := codec.Answer([]chain.Result{{Success: true, ReturnData: make([]byte, 32)}, {}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, 2)
	f.Add(good[:len(good)-1], 2)
	f.Add([]byte{}, 0)
	f.Add(bytes.Repeat([]byte{0xff}, 96), 1)
	f.Fuzz(func(t *testing.T, reply []byte, n int) {
		n &= 0xff
		got, err := codec.Unpack(reply, n)
		if err == nil && len(got) != n {
			t.Errorf("%d balances of %d", len(got), n)
		}
	})
}
