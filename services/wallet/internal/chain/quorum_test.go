package chain_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"pgregory.net/rapid"

	"github.com/purserhq/purser/services/wallet/internal/balancesync"
	"github.com/purserhq/purser/services/wallet/internal/chain"
	"github.com/purserhq/purser/services/wallet/internal/chainlist"
)

// newQuorumReader reads chain 1 from nodes of which this many have to agree.
func newQuorumReader(t testing.TB, quorum int, urls ...string) *reader {
	t.Helper()
	r := &reader{now: noon(), log: &bytes.Buffer{}}
	var err error
	r.Reader, err = chain.NewReader(chain.Options{
		Nodes: map[uint64][]string{1: urls}, Quorum: map[uint64]int{1: quorum}, ChunkSize: 3,
		Log: slog.New(slog.NewTextHandler(r.log, nil)), Now: func() time.Time { return r.now },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// truth is the balance of a token at a block of the chain of trueNode.
func truth(contract common.Address, number uint64) uint64 { return uint64(contract[0])*1000 + number }

// trueNode is a node with the blocks 0 to 100 that knows the balances of each block.
func trueNode(t testing.TB) *node {
	t.Helper()
	n := withPast(newNode(t))
	n.atBlock = func(hash common.Hash, targets []common.Address) any { return n.balances(t, hash, targets, 0) }
	return n
}

// balances answers with the truth, and more.
func (n *node) balances(t testing.TB, hash common.Hash, targets []common.Address, more uint64) any {
	t.Helper()
	results := make([]chain.Result, len(targets))
	for i, target := range targets {
		v := truth(target, hash.Big().Uint64()-1) + more
		word := common.BigToHash(new(big.Int).SetUint64(v))
		results[i] = chain.Result{Success: true, ReturnData: word[:]}
	}
	return n.results(t, results)
}

// lie is a way in which a node is hostile or broken.
type lie struct {
	name string
	tell func(t testing.TB, n *node)
	// stored: a reader that believes the node alone stores it.
	stored bool
}

func rewrite(n *node, change func(body string) string) {
	n.raw = func(w http.ResponseWriter, r *http.Request) {
		rec := &recorder{header: http.Header{}}
		n.serve(rec, r)
		_, _ = io.WriteString(w, change(rec.body.String()))
	}
}

// recorder keeps an answer.
type recorder struct {
	header http.Header
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(int)             {}
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }

func lies() []lie {
	answer := func(what any) func(testing.TB, *node) {
		return func(_ testing.TB, n *node) { n.atBlock = func(common.Hash, []common.Address) any { return what } }
	}
	head := func(head any) func(testing.TB, *node) { return func(_ testing.TB, n *node) { n.head = head } }
	status := func(code int, body string) func(testing.TB, *node) {
		return func(_ testing.TB, n *node) {
			n.raw = func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(code)
				_, _ = io.WriteString(w, body)
			}
		}
	}
	forked := func(number uint64) map[string]any {
		b := numbered(number, hourOf(number))
		b["hash"] = common.Hash{0: 0xf0, 31: byte(number + 1)}
		return b
	}
	return []lie{
		{"balances one too high", func(t testing.TB, n *node) {
			n.atBlock = func(h common.Hash, targets []common.Address) any { return n.balances(t, h, targets, 1) }
		}, true},
		{"balances of another block", func(t testing.TB, n *node) {
			n.atBlock = func(_ common.Hash, targets []common.Address) any {
				return n.balances(t, common.Hash{31: 60}, targets, 0)
			}
		}, true},
		{"zeros", func(t testing.TB, n *node) {
			n.atBlock = func(_ common.Hash, targets []common.Address) any {
				results := make([]chain.Result, len(targets))
				for i := range results {
					results[i] = chain.Result{Success: true, ReturnData: make([]byte, 32)}
				}
				return n.results(t, results)
			}
		}, true},
		{"all calls failed", func(t testing.TB, n *node) {
			n.atBlock = func(_ common.Hash, targets []common.Address) any {
				return n.results(t, make([]chain.Result, len(targets)))
			}
		}, false},
		{"the results in another order", func(t testing.TB, n *node) {
			n.atBlock = func(h common.Hash, targets []common.Address) any {
				turned := append([]common.Address{targets[len(targets)-1]}, targets[:len(targets)-1]...)
				return n.balances(t, h, turned, 0)
			}
		}, true},
		{"too few results", func(t testing.TB, n *node) {
			n.atBlock = func(h common.Hash, targets []common.Address) any { return n.balances(t, h, targets[1:], 0) }
		}, false},
		{"no words", answer("0xdeadbeef"), false},
		{"nothing", answer("0x"), false},
		{"errors", answer(fault{-32000, "<script>"}), false},
		{"a lie in an error", answer(fault{3, "execution reverted"}), false},
		{"too often", answer(fault{-32005, "limit exceeded"}), false},
		{"no such block", answer(fault{-32000, "header not found"}), false},
		{"a fork of its own", func(t testing.TB, n *node) {
			n.past, n.head = func(number uint64) any { return forked(number) }, forked(100)
			n.atBlock = func(_ common.Hash, targets []common.Address) any {
				return n.balances(t, common.Hash{31: 101}, targets, 5)
			}
		}, true},
		{"another hash of the newest block", func(t testing.TB, n *node) {
			n.head = forked(100)
			n.atBlock = func(_ common.Hash, targets []common.Address) any {
				return n.balances(t, common.Hash{31: 101}, targets, 5)
			}
		}, true},
		{"another time of the newest block", head(numbered(100, noon().Add(time.Second))), false},
		{"far ahead", head(numbered(5000, noon())), false},
		{"far behind", head(numbered(7, hourOf(7))), false},
		{"in the future", head(numbered(101, noon().Add(time.Hour))), false},
		{"no newest block", head(nil), false},
		{"another chain", func(_ testing.TB, n *node) { n.id = "0x2" }, false},
		{"a page", status(http.StatusOK, "<html>"), false},
		{"unavailable", status(http.StatusBadGateway, `{"jsonrpc":"2.0","id":1,"result":"0x1"}`), false},
		{"limited", status(http.StatusTooManyRequests, ""), false},
		{"half of each answer", func(_ testing.TB, n *node) {
			rewrite(n, func(body string) string { return body[:len(body)/2] })
		}, false},
		{"ids of other calls", func(_ testing.TB, n *node) {
			rewrite(n, func(body string) string { return strings.ReplaceAll(body, `"id":`, `"id":1`) })
		}, false},
	}
}

// wantTruth fails the test if an amount was read that isn't the truth, and returns how many were.
func wantTruth(t interface {
	Helper()
	Errorf(format string, args ...any)
}, readings []balancesync.Reading, requests []balancesync.Request) (read int) {
	t.Helper()
	for i, reading := range readings {
		if reading.Block.Hash != common.BigToHash(new(big.Int).SetUint64(reading.Block.Number+1)) {
			t.Errorf("read at block %d with the hash %x", reading.Block.Number, reading.Block.Hash)
		}
		for j, a := range reading.Amounts {
			if a == nil {
				continue
			}
			read++
			if want := truth(requests[i].Tokens[j].Contract, reading.Block.Number); a.Uint64() != want {
				t.Errorf("a balance of %s at block %d, %d is true", a, reading.Block.Number, want)
			}
		}
	}
	return read
}

// With a quorum of two no single node makes a wrong balance, wherever it stands. Where two others are sound, it
// doesn't even make one missing. The control believes a node alone.
func TestNoSingleNodeMakesAWrongBalance(t *testing.T) {
	t.Parallel()
	requests := []balancesync.Request{{Holder: common.Address{1}, Tokens: tokens(5)}, {Holder: common.Address{2},
		Tokens: tokens(4)}}
	for _, l := range lies() {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			liar, a, b := trueNode(t), trueNode(t), trueNode(t)
			l.tell(t, liar)
			for name, urls := range map[string][]string{
				"first of two": {liar.URL, a.URL}, "second of two": {a.URL, liar.URL},
				"first of three": {liar.URL, a.URL, b.URL}, "second of three": {a.URL, liar.URL, b.URL},
				"third of three": {a.URL, b.URL, liar.URL},
			} {
				r := newQuorumReader(t, 2, urls...)
				for range 2 { // the second time it is in its cooldown, if it has one
					got, err := r.ReadBatch(t.Context(), 1, 0, requests)
					read := wantTruth(t, got, requests)
					if len(urls) == 3 && (err != nil || read != 9 || got[0].Block.Number != 100) {
						t.Errorf("%s: of 9 balances %d were read: %v", name, read, err)
					}
					if err != nil && (!strings.Contains(err.Error(), "2 nodes of chain eip155:1 have to agree") &&
						!strings.Contains(err.Error(), "no balance")) {
						t.Errorf("%s: the error doesn't say what happened: %v", name, err)
					}
				}
			}
			control, err := newQuorumReader(t, 1, liar.URL, a.URL).ReadBatch(t.Context(), 1, 0, requests)
			if stored := err == nil && !isTrue(control, requests); stored != l.stored {
				t.Errorf("the control stores a lie: %t, %v", stored, err)
			}
		})
	}
}

type silence struct{ failed bool }

func (*silence) Helper()                 {}
func (s *silence) Errorf(string, ...any) { s.failed = true }

func isTrue(readings []balancesync.Reading, requests []balancesync.Request) bool {
	s := &silence{}
	wantTruth(s, readings, requests)
	return !s.failed
}

// A node that changes its mind from call to call, and lies about some tokens only, in any combination.
func TestNoMixtureOfLiesMakesAWrongBalance(t *testing.T) {
	t.Parallel()
	requests := []balancesync.Request{{Holder: common.Address{1}, Tokens: tokens(5)}}
	liar, a, b := trueNode(t), trueNode(t), trueNode(t)
	all := lies()
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		some := rapid.SliceOfN(rapid.IntRange(0, len(all)-1), 1, 4).Draw(rt, "lies")
		random := rand.New(rand.NewPCG(seed, 1))
		liar.raw = func(w http.ResponseWriter, r *http.Request) {
			liar.mu.Lock()
			pick, honest := all[some[random.IntN(len(some))]], random.IntN(2) == 0
			liar.mu.Unlock()
			as := &node{codec: liar.codec, id: "0x1", blocks: map[string]bool{}}
			withPast(as)
			as.atBlock = func(h common.Hash, targets []common.Address) any { return as.balances(t, h, targets, 0) }
			if !honest {
				pick.tell(t, as)
			}
			if as.raw != nil {
				as.raw(w, r)
				return
			}
			as.serve(w, r)
		}
		urls := rapid.Permutation([]string{liar.URL, a.URL, b.URL}).Draw(rt, "order")
		got, err := newQuorumReader(t, 2, urls...).ReadBatch(t.Context(), 1, 0, requests)
		if read := wantTruth(rt, got, requests); err != nil || read != 5 {
			rt.Errorf("of 5 balances %d were read: %v", read, err)
		}
	})
}

func TestABalanceOnWhichTheNodesDisagreeIsDisputedAlone(t *testing.T) {
	liar, a := trueNode(t), trueNode(t)
	liar.atBlock = func(h common.Hash, targets []common.Address) any {
		results := make([]chain.Result, len(targets))
		for i, target := range targets {
			word := common.BigToHash(new(big.Int).SetUint64(truth(target, 100) + uint64(1-target[0]%2)))
			results[i] = chain.Result{Success: true, ReturnData: word[:]} // one more for even ones
		}
		return liar.results(t, results)
	}
	r := newQuorumReader(t, 2, a.URL, liar.URL)
	got, err := r.read(t, tokens(4))
	if err != nil || amounts(got) != "1100 - 3100 -" || fmt.Sprint(got.Disputed) != "[false true false true]" {
		t.Fatalf("read %s, disputed %v, %v", amounts(got), got.Disputed, err)
	}
	if !strings.Contains(r.log.String(), "nodes disagree") {
		t.Errorf("logged %s", r.log)
	}
	// With a third node it is known who lies.
	b := trueNode(t)
	r = newQuorumReader(t, 2, a.URL, liar.URL, b.URL)
	if got, err = r.read(t, tokens(4)); err != nil || amounts(got) != "1100 2100 3100 4100" {
		t.Fatalf("read %s, %v", amounts(got), err)
	}
	all, err := r.Status(t.Context())
	if err != nil || all[0].Nodes[1].Reason != chainlist.Disagrees || all[0].Nodes[0].Reason != "" {
		t.Errorf("told: %+v, %v", all, err)
	}
	if !strings.Contains(r.log.String(), "node contradicts the others") {
		t.Errorf("logged %s", r.log)
	}
}

// Nodes that hang, from different calls on, cost a hedge delay and not the reading.
func TestAQuorumIsReadBesideNodesThatHang(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"eth_chainId", "eth_getBlockByNumber", "eth_call"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			hangs, a, b := hangingAt(t, trueNode(t), method), trueNode(t), trueNode(t)
			begun := time.Now()
			got, err := newQuorumReader(t, 2, hangs.URL, a.URL, b.URL).read(t, tokens(2))
			if err != nil || amounts(got) != "1100 2100" {
				t.Errorf("read %s, %v", amounts(got), err)
			}
			if took := time.Since(begun); took > 8*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

// hangingAt has a node answer calls of a method never.
func hangingAt(t testing.TB, n *node, method string) *node {
	t.Helper()
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	n.raw = func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if strings.Contains(string(body), method) {
			select {
			case <-hang:
			case <-r.Context().Done():
			}
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		n.serve(w, r)
	}
	return n
}

func TestPastBalancesNeedTheQuorumToo(t *testing.T) {
	t.Parallel()
	holders := []common.Address{{1}}
	times := []time.Time{hourOf(40), hourOf(41)}
	for _, l := range lies() {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			liar, a, b := trueNode(t), trueNode(t), trueNode(t)
			l.tell(t, liar)
			for _, urls := range [][]string{{liar.URL, a.URL}, {a.URL, liar.URL}, {liar.URL, a.URL, b.URL}} {
				got, err := newQuorumReader(t, 2, urls...).ReadAt(t.Context(), 1, times, holders, tokens(2))
				for i, want := range []string{"40: 1040 2040", "41: 1041 2041"} {
					if is := readingText(got[i]); is != want && (len(urls) == 3 || got[i].Amounts != nil ||
						err == nil && got[i].Error == "") {
						t.Errorf("read %q, %v, want %q", is, err, want)
					}
				}
			}
		})
	}
}
