package chain_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/purserhq/purser/services/wallet/internal/chain"
)

// withBalances gives each block a balance of its own for each token.
func withBalances(t *testing.T, n *node) *node {
	t.Helper()
	n.atBlock = func(hash common.Hash, targets []common.Address) any {
		results := make([]chain.Result, len(targets))
		for i, target := range targets {
			results[i] = chain.Result{Success: true,
				ReturnData: common.LeftPadBytes([]byte{hash[31], target[0]}, 32)}
		}
		return n.results(t, results)
	}
	return n
}

// However a node answers batches, what is read is what single calls read.
func TestBatchesAndSingleCallsReadTheSame(t *testing.T) {
	encode := func(w http.ResponseWriter, v any) { _ = json.NewEncoder(w).Encode(v) }
	limited := func(call rpcCall) map[string]any {
		return map[string]any{"jsonrpc": "2.0", "id": call.ID, "error": fault{-32005, "limit exceeded"}}
	}
	var times []time.Time
	for number := uint64(10); number < 80; number++ {
		times = append(times, hourOf(number))
	}
	read := func(t *testing.T, n *node) (lines []string) {
		t.Helper()
		got, err := newReader(t, 3, n.URL).readAt(t, 2, times...)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range got {
			lines = append(lines, readingText(r))
		}
		return lines
	}
	single := withBalances(t, withPast(newNode(t)))
	single.batch = noBatches
	want := read(t, single)
	if one, two := 11<<8+1, 11<<8+2; want[0] != fmt.Sprintf("10: %d %d %d %d", one, two, one, two) {
		t.Fatalf("read %v", want)
	}
	for _, tc := range []struct {
		name  string
		batch func(w http.ResponseWriter, calls []rpcCall, replies []any)
		again bool // the node gets batches afterwards
	}{
		{"in order", nil, true},
		{"in another order", func(w http.ResponseWriter, _ []rpcCall, replies []any) {
			rand.Shuffle(len(replies), func(i, j int) { replies[i], replies[j] = replies[j], replies[i] })
			encode(w, replies)
		}, true},
		{"refused by a status", noBatches, false},
		{"refused by an error", func(w http.ResponseWriter, _ []rpcCall, _ []any) {
			encode(w, map[string]any{"jsonrpc": "2.0", "id": nil, "error": fault{-32600, "no batches"}})
		}, false},
		{"refused by the error of the first call", func(w http.ResponseWriter, calls []rpcCall, _ []any) {
			encode(w, []any{limited(calls[0])})
		}, false},
		{"some replies left out", func(w http.ResponseWriter, _ []rpcCall, replies []any) {
			encode(w, slices.Delete(replies, 0, len(replies)/2))
		}, false},
		{"some calls refused", func(w http.ResponseWriter, calls []rpcCall, replies []any) {
			for i := range calls {
				if i%2 == 1 {
					replies[i] = limited(calls[i])
				}
			}
			encode(w, replies)
		}, false},
		{"nothing", func(http.ResponseWriter, []rpcCall, []any) {}, false},
		{"null", func(w http.ResponseWriter, _ []rpcCall, _ []any) { encode(w, nil) }, false},
		{"cut off", func(w http.ResponseWriter, _ []rpcCall, _ []any) {
			_, _ = w.Write([]byte(`[{"jsonrpc":"2.0"`))
		}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := withBalances(t, withPast(newNode(t)))
			n.batch = tc.batch
			if got := read(t, n); !slices.Equal(got, want) {
				t.Errorf("read %v, want %v", got, want)
			}
			if tc.again && n.asked() > 40 {
				t.Errorf("%d requests for %d hours: they were not read in batches", n.asked(), len(times))
			}
			if !tc.again && (n.batches == 0 || n.batches > 8) {
				t.Errorf("%d batches for a node that does not take them", n.batches)
			}
		})
	}
}

// When a node fails, not every call of a batch is tried again.
func TestANodeThatFailsInABatchIsNotAskedForEveryCall(t *testing.T) {
	n := withPast(newNode(t))
	var asked atomic.Int64
	n.answer = func([]common.Address) any {
		asked.Add(1)
		return fault{-32005, "limit exceeded"}
	}
	var times []time.Time
	for number := uint64(10); number < 34; number++ {
		times = append(times, hourOf(number))
	}
	_, err := newReader(t, 10, n.URL).readAt(t, 1, times...)
	unavailable(t, err)
	// 24 in three batches, and after each batch one alone.
	if got := asked.Load(); got > 24+3 {
		t.Errorf("asked %d times for 24 hours", got)
	}
}
