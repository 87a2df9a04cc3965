package chain_test

import (
	"context"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"pgregory.net/rapid"

	"github.com/purserhq/purser/services/wallet/internal/chain"
	"github.com/purserhq/purser/services/wallet/internal/history"
)

// numbered is a block whose hash tells its number.
func numbered(number uint64, at time.Time) map[string]any {
	b := blockJSON(number, at)
	b["hash"] = common.BigToHash(new(big.Int).SetUint64(number + 1))
	return b
}

// withPast gives a node the blocks 0 to 100, the first 100 hours ago and each
// an hour after the one before.
func withPast(n *node) *node {
	n.head = numbered(100, noon())
	n.past = func(number uint64) any { return numbered(number, hourOf(number)) }
	n.code = func(common.Address) any { return "0x00" }
	return n
}

func hourOf(number uint64) time.Time {
	return noon().Add(-100 * time.Hour).Add(time.Duration(number) * time.Hour)
}

// readAt reads the balances of two holders.
func (r *reader) readAt(t testing.TB, count int, times ...time.Time) ([]history.Reading, error) {
	t.Helper()
	return r.ReadAt(t.Context(), 1, times, []common.Address{{19: 0xaa}, {19: 0xbb}}, tokens(count))
}

// readingText is a reading as text: the block and what the two holders have, or why
// there is none.
func readingText(r history.Reading) string {
	if r.Amounts == nil {
		return r.Error
	}
	var of []string
	for _, h := range r.Amounts {
		for _, a := range h {
			if a == nil {
				of = append(of, "-")
			} else {
				of = append(of, a.Dec())
			}
		}
	}
	return fmt.Sprintf("%d: %s", r.Block.Number, strings.Join(of, " "))
}

func TestTheBlockOfAMomentIsTheLastOneAtOrBeforeIt(t *testing.T) {
	n := newNode(t)
	n.code = func(common.Address) any { return "0x00" }
	rapid.Check(t, func(t *rapid.T) {
		// Seconds between blocks: none as on chains with several a second, and
		// long pauses.
		gaps := rapid.SliceOfN(rapid.SampledFrom([]int{0, 0, 1, 12, 12, 13, 3600, 1_000_000}), 1, 300).Draw(t, "gaps")
		at := []time.Time{noon().Add(-time.Hour)}
		for _, gap := range gaps {
			at = append(at, at[len(at)-1].Add(time.Duration(gap)*time.Second))
		}
		last := at[len(at)-1]
		shift := noon().Sub(last)
		for i := range at {
			at[i] = at[i].Add(shift)
		}
		n.head = numbered(uint64(len(at)-1), noon())
		n.past = func(number uint64) any { return numbered(number, at[number]) }
		var times []time.Time
		for range 5 {
			i := rapid.IntRange(0, len(at)-1).Draw(t, "block")
			times = append(times, at[i].Add(time.Duration(rapid.IntRange(-2, 20).Draw(t, "off"))*time.Second))
		}
		r, err := chain.NewReader(chain.Options{Nodes: map[uint64][]string{1: {n.URL}}, ChunkSize: 10, Now: noon})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = r.Close() }()
		got, err := r.ReadAt(context.Background(), 1, times, []common.Address{{}}, tokens(1))
		if err != nil {
			t.Fatal(err)
		}
		for i, when := range times {
			want := -1
			for number := range at {
				if !at[number].After(when) {
					want = number
				}
			}
			switch r := got[i]; {
			case !when.Before(noon()):
				if r.Amounts != nil || r.Error == "" {
					t.Fatalf("%s is not over: %+v", when, r)
				}
			case want < 0:
				if r.Amounts == nil || !r.Amounts[0][0].IsZero() || !r.Block.Time.IsZero() {
					t.Fatalf("before the chain: %+v", r)
				}
			case r.Amounts == nil || r.Block.Number != uint64(want):
				t.Fatalf("at %s: block %d, want %d (%+v)", when, r.Block.Number, want, r)
			}
		}
	})
}

func TestNodesThatAreNotBelievedAboutThePast(t *testing.T) {
	set := func(past func(number uint64) any) func(*node) { return func(n *node) { n.past = past } }
	seen := map[uint64]int{}
	for _, tc := range []struct {
		name string
		bend func(*node)
	}{
		{"blocks after the moment, for those before it",
			set(func(number uint64) any { return numbered(number, noon().Add(-time.Hour)) })},
		{"a first block after the head", set(
			func(number uint64) any { return numbered(number, noon().Add(time.Minute)) })},
		{"times that fall", set(func(number uint64) any {
			if number == 0 {
				return numbered(0, hourOf(0))
			}
			return numbered(number, hourOf(100-number).Add(time.Duration(number%7)*time.Hour))
		})},
		{"another block than was asked for", set(
			func(number uint64) any { return numbered(number/2+1, hourOf(number)) })},
		{"a block that changes", set(func(number uint64) any {
			seen[number]++
			return numbered(number, hourOf(number).Add(time.Duration(seen[number])*time.Second))
		})},
		{"a newest block in the future", func(n *node) { n.head = numbered(100, noon().Add(time.Hour)) }},
		{"garbage for a block", set(func(uint64) any { return "0x1" })},
		{"asked too often", set(func(uint64) any { return fault{-32005, "limit exceeded"} })},
		{"too few balances", func(n *node) {
			n.answer = func([]common.Address) any { return n.results(t, make([]chain.Result, 1)) }
		}},
		{"every call failed", func(n *node) {
			n.answer = func(targets []common.Address) any { return n.results(t, make([]chain.Result, len(targets))) }
		}},
		{"a block that it doesn't know by its hash", func(n *node) {
			n.answer = func([]common.Address) any { return fault{-32000, "header for hash not found"} }
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			hostile, sound := withPast(newNode(t)), withPast(newNode(t))
			tc.bend(hostile)
			at := hourOf(40).Add(time.Minute)
			alone := newReader(t, 10, hostile.URL)
			got, err := alone.readAt(t, 2, at)
			if tc.name == "blocks after the moment, for those before it" || tc.name == "a block that changes" {
				// Nothing was there at the time, or no contradiction was met: what
				// must not be is a block after the moment.
				if err == nil && got[0].Block.Time.After(at) {
					t.Fatalf("read %s", readingText(got[0]))
				}
				return
			}
			unavailable(t, err)
			if got[0].Amounts != nil || got[0].Error != "" {
				t.Errorf("and read %s", readingText(got[0]))
			}
			if got, err := newReader(t, 10, hostile.URL, sound.URL).readAt(t, 2, at); err != nil ||
				readingText(got[0]) != "40: 1 2 1 2" {
				t.Errorf("with a sound node beside it: %s, %v", readingText(got[0]), err)
			}
		})
	}
}

func TestAnHourThatNoNodeHasTheStateOfFailsWithTheReason(t *testing.T) {
	for _, refusal := range []string{
		"missing trie node 8f1b (path ) state 0x12 is not available",
		"required historical state unavailable (reexec=128)",
		"historical state 0x12 is not available", "No state available for block 12",
		"World state unavailable for block",
		"old data not available due to pruning", "this request needs an archive node",
	} {
		t.Run(refusal, func(t *testing.T) {
			prunes, archive := withPast(newNode(t)), withPast(newNode(t))
			sound := prunes.answer
			old := false
			prunes.answer = func(targets []common.Address) any {
				if old {
					return fault{-32000, refusal}
				}
				return sound(targets)
			}
			r := newReader(t, 10, prunes.URL)
			if got, err := r.readAt(t, 1, hourOf(99)); err != nil || readingText(got[0]) != "99: 1 1" {
				t.Fatalf("while it has the state: %s, %v", readingText(got[0]), err)
			}
			old = true
			got, err := r.readAt(t, 1, hourOf(40))
			if err != nil || got[0].Amounts != nil || !strings.Contains(got[0].Error, "archive node") {
				t.Fatalf("read %s, %v", readingText(got[0]), err)
			}
			if r.log.Len() > 0 {
				t.Errorf("a node without old states is said to fail: %s", r.log)
			}
			if got, err := newReader(t, 10, prunes.URL, archive.URL).readAt(t, 1, hourOf(40)); err != nil ||
				readingText(got[0]) != "40: 1 1" {
				t.Errorf("with an archive node beside it: %s, %v", readingText(got[0]), err)
			}
			down := newNode(t)
			down.Close()
			if got, err := newReader(t, 10, prunes.URL, down.URL).readAt(t, 1, hourOf(40)); err != nil ||
				got[0].Error == "" {
				t.Errorf("with one beside it that is down: %s, %v", readingText(got[0]), err)
			}
		})
	}
	t.Run("a block that the node doesn't have", func(t *testing.T) {
		n := withPast(newNode(t))
		n.past = func(number uint64) any {
			if number > 0 && number < 90 {
				return nil
			}
			return numbered(number, hourOf(number))
		}
		got, err := newReader(t, 10, n.URL).readAt(t, 1, hourOf(40), hourOf(95))
		if err != nil || got[0].Error == "" || readingText(got[1]) != "95: 1 1" {
			t.Errorf("read %s and %s, %v", readingText(got[0]), readingText(got[1]), err)
		}
	})
}

func TestAContractThatWasNotThereYetHeldNothing(t *testing.T) {
	n := withPast(newNode(t))
	n.answer = func(targets []common.Address) any {
		results := make([]chain.Result, len(targets))
		for i, target := range targets {
			results[i] = chain.Result{Success: true, ReturnData: common.LeftPadBytes(target[:1], 32)}
			if target[0] > 1 {
				results[i].ReturnData = nil
			}
		}
		return n.results(t, results)
	}
	var asked atomic.Int64
	n.code = func(contract common.Address) any {
		asked.Add(1)
		if contract[0] == 2 {
			return "0x"
		}
		return "0x6000" // a contract that answers with nothing is unread, not zero
	}
	r := newReader(t, 10, n.URL)
	got, err := r.readAt(t, 3, hourOf(40))
	if err != nil || readingText(got[0]) != "40: 1 0 - 1 0 -" {
		t.Fatalf("read %s, %v", readingText(got[0]), err)
	}
	before := asked.Load()
	if _, err := r.readAt(t, 2, hourOf(20), hourOf(30)); err != nil || asked.Load() != before {
		t.Errorf("asked %d times more of a contract that came later, %v", asked.Load()-before, err)
	}
	n.code = func(common.Address) any { return fault{-32000, "missing trie node"} }
	if got, err := r.readAt(t, 2, hourOf(60)); err != nil || got[0].Error == "" {
		t.Errorf("without the state: %s, %v", readingText(got[0]), err)
	}
}

func TestWhatWasReadIsReturnedWhenTheCallerGoes(t *testing.T) {
	for _, tc := range []struct {
		name                   string
		batch                  func(http.ResponseWriter, []rpcCall, []any)
		goes, minRead, maxRead int // the balances that were read when the caller goes, and how many are returned
	}{
		{"of a node that takes no batches", noBatches, 50, 10, 60},
		{"of a node that takes batches", nil, 80, 16, 90},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := withPast(newNode(t))
			n.batch = tc.batch
			ctx, cancel := context.WithCancel(t.Context())
			sound := n.answer
			var asked atomic.Int64
			n.answer = func(targets []common.Address) any {
				if asked.Add(1) == int64(tc.goes) {
					cancel()
				}
				return sound(targets)
			}
			var times []time.Time
			for number := range uint64(90) {
				times = append(times, hourOf(number))
			}
			got, err := newReader(t, 10, n.URL).ReadAt(ctx, 1, times, []common.Address{{}}, tokens(1))
			read := 0
			for _, r := range got {
				if r.Amounts != nil {
					read++
				}
				if r.Error != "" {
					t.Errorf("failed: %s", r.Error)
				}
			}
			if err == nil || read < tc.minRead || read > tc.maxRead {
				t.Errorf("%d were read, %v", read, err)
			}
		})
	}
}

// What a search found helps the next one, also when it came to no end; a node
// that failed is asked for everything again.
func TestBlocksThatWereFoundAreRemembered(t *testing.T) {
	n := withPast(newNode(t))
	sound := n.past
	var searched atomic.Int64
	n.past = func(number uint64) any { searched.Add(1); return sound(number) }
	r := newReader(t, 10, n.URL)
	after := func() int64 {
		searched.Store(0)
		if got, err := r.readAt(t, 1, hourOf(40)); err != nil || readingText(got[0]) != "40: 1 1" {
			t.Fatal(readingText(got[0]), err)
		}
		return searched.Load()
	}
	first := after()
	if first == 0 || after() != 0 {
		t.Errorf("%d blocks were read at first, and %d again", first, searched.Load())
	}
	head := n.head
	n.head = fault{-32000, "starting"}
	if _, err := r.readAt(t, 1, hourOf(40)); err == nil {
		t.Error("a node without a newest block is believed")
	}
	n.head = head
	if again := after(); again != first {
		t.Errorf("after a failure %d blocks were read, want %d", again, first)
	}
}

func TestTheChunksOfAnHourAreReadConcurrently(t *testing.T) {
	n := withPast(newNode(t))
	n.batch = noBatches
	answer, together := n.answer, make(chan struct{})
	var calls atomic.Int64
	n.answer = func(targets []common.Address) any {
		if calls.Add(1) == 4 {
			close(together)
		}
		select {
		case <-together:
		case <-t.Context().Done():
		}
		return answer(targets)
	}
	got, err := newReader(t, 2, n.URL).readAt(t, 5, hourOf(40))
	if err != nil || readingText(got[0]) != "40: 1 2 3 4 5 1 2 3 4 5" {
		t.Errorf("read %s, %v", readingText(got[0]), err)
	}
}
