package chain_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
)

// unknownBlocks are the words of nodes for a block that they don't know.
func unknownBlocks() map[string]fault {
	return map[string]fault{
		"geth":            {-32000, "header not found"},
		"geth, by a hash": {-32000, "header for hash not found"},
		"besu":            {-32000, "Block not found"},
		"anvil":           {-32001, "Resource not found"},
		"anvil, of the future": {-32602,
			"BlockOutOfRangeError: block height is 82 but requested was 100"},
		"hardhat": {-32000, "Received invalid block tag 100. Latest block number is 0"},
		"ganache": {-32700, "header not found"},
	}
}

// Of two nodes behind a balancer one doesn't know the block that the other has named, and every second call gets to
// it.
func TestBehindABalancerACallIsMadeAgain(t *testing.T) {
	for name, words := range unknownBlocks() {
		t.Run(name, func(t *testing.T) {
			n := withPast(newNode(t))
			sound := n.answer
			var asked atomic.Int64
			n.answer = func(targets []common.Address) any {
				if asked.Add(1)%2 == 1 {
					return words
				}
				return sound(targets)
			}
			r := newReader(t, 10, n.URL)
			got, err := r.read(t, tokens(30))
			if err != nil || !strings.HasPrefix(amounts(got), "1 2 3 ") || got.Amounts[29] == nil {
				t.Fatalf("read %s, %v", amounts(got), err)
			}
			if len(n.chunks) != 6 { // 3 chunks, each asked for twice
				t.Errorf("asked in chunks %v", n.chunks)
			}
			past, err := r.readAt(t, 30, hourOf(40), hourOf(41))
			if err != nil || !strings.HasPrefix(readingText(past[0]), "40: 1 2 3 ") ||
				strings.Contains(readingText(past[1]), "-") {
				t.Errorf("of the past: %s, %v", readingText(past[0]), err)
			}
			if r.log.Len() > 0 {
				t.Errorf("logged %s", r.log)
			}
		})
	}
}

// A node that never knows it, as after a reorg, is left for the next one: no smaller call will do.
func TestABlockThatANodeNeverKnowsLeadsToTheNextNode(t *testing.T) {
	for name, words := range unknownBlocks() {
		t.Run(name, func(t *testing.T) {
			lost, sound := newNode(t), newNode(t)
			lost.answer = func([]common.Address) any { return words }
			got, err := newReader(t, 10, lost.URL, sound.URL).read(t, tokens(8))
			if err != nil || amounts(got) != "1 2 3 4 5 6 7 8" {
				t.Fatalf("read %s, %v", amounts(got), err)
			}
			for _, size := range lost.chunks {
				if size != 8 {
					t.Errorf("the call was halved: %v", lost.chunks)
				}
			}
			_, err = newReader(t, 10, lost.URL).read(t, tokens(8))
			if e := unavailable(t, err); !strings.Contains(e.Message, "doesn't know a block that it named") {
				t.Errorf("told: %s", e.Message)
			}
		})
	}
}

// A node that doesn't have a block of the past by its number may have it the next time.
func TestABlockThatIsMissingOnceIsAskedForAgain(t *testing.T) {
	n := withPast(newNode(t))
	sound := n.past
	var asked atomic.Int64
	n.past = func(number uint64) any {
		if asked.Add(1)%2 == 1 {
			return nil
		}
		return sound(number)
	}
	if got, err := newReader(t, 10, n.URL).readAt(t, 2, hourOf(40)); err != nil ||
		readingText(got[0]) != "40: 1 2 1 2" {
		t.Errorf("read %s, %v", readingText(got[0]), err)
	}
}

// ganache takes no block's hash in place of a number (EIP-1898). It is asked by number, and whether the block is still
// the same afterwards.
func TestANodeWithoutEIP1898IsAskedByNumber(t *testing.T) {
	for _, words := range []fault{{-32700, `Cannot wrap a "object" as a json-rpc type`},
		{-32602, "invalid argument 1: json: cannot unmarshal object into Go value of type rpc.BlockNumber"}} {
		byNumber := func(n *node) *node {
			sound := n.plain
			n.plain = func(contract common.Address, block json.RawMessage) any {
				if block[0] == '{' {
					return words
				}
				return sound(contract, block)
			}
			return n
		}
		n := byNumber(withoutMulticall(withPast(newNode(t))))
		r := newReader(t, 10, n.URL)
		if got, err := r.read(t, tokens(30)); err != nil || !strings.HasSuffix(amounts(got), " 29 30") ||
			got.Block.Number != 100 {
			t.Errorf("read %s, %v", amounts(got), err)
		}
		if got, err := r.readAt(t, 2, hourOf(40)); err != nil || readingText(got[0]) != "40: 1 2 1 2" {
			t.Errorf("of the past: %s, %v", readingText(got[0]), err)
		}
		if r.log.Len() > 0 {
			t.Errorf("logged %s", r.log)
		}
		reorged := byNumber(withoutMulticall(withPast(newNode(t))))
		reorged.past = func(number uint64) any {
			b := numbered(number, hourOf(number))
			b["hash"] = common.Hash{1}
			return b
		}
		_, err := newReader(t, 10, reorged.URL).read(t, tokens(3))
		if e := unavailable(t, err); !strings.Contains(e.Message, "block 100 has changed") {
			t.Errorf("after a reorg: %v", e.Message)
		}
	}
}

// What nodes without the state of an hour say. It concerns this hour alone.
func TestPrunedStatesOfRealNodesAreNoFailure(t *testing.T) {
	for _, words := range []fault{{-32602, "BlockOutOfRangeError: block height is 82 but requested was 36"},
		{-32000, "missing trie node 8f1b (path ) state 0x12 is not available"}} {
		n := withPast(newNode(t))
		n.answer = func([]common.Address) any { return words }
		r := newReader(t, 10, n.URL)
		got, err := r.readAt(t, 1, hourOf(40))
		if err != nil || !strings.Contains(got[0].Error, "archive node") || r.log.Len() > 0 {
			t.Errorf("%s: read %s, %v, logged %s", words.Message, readingText(got[0]), err, r.log)
		}
	}
}

// A node that says when to come again is not asked before, also when there is no other.
func TestANodeThatAsksForARestGetsIt(t *testing.T) {
	after := func(header string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", header)
			http.Error(w, "slow down", http.StatusTooManyRequests)
		}
	}
	for _, tc := range []struct {
		name       string
		bend       func(*node)
		retryAfter time.Duration
	}{
		{"in seconds", func(n *node) { n.raw = after("120") }, 2 * time.Minute},
		{"as a date", func(n *node) { n.raw = after(noon().Add(3 * time.Minute).Format(http.TimeFormat)) },
			3 * time.Minute},
		{"for a year", func(n *node) { n.raw = after("31536000") }, 10 * time.Minute},
		{"in an error of JSON-RPC", func(n *node) {
			n.answer = func([]common.Address) any {
				return map[string]any{"code": -32005, "message": "daily request count exceeded, request rate limited",
					"data": map[string]any{"rate": map[string]any{"backoff_seconds": 60.0}}}
			}
		}, time.Minute},
		{"beside an error of JSON-RPC", func(n *node) {
			n.raw = func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Retry-After", "90")
				n.serve(w, r)
			}
			n.answer = func([]common.Address) any { return fault{429, "compute units per second"} }
		}, 90 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := newNode(t)
			sound := n.answer
			tc.bend(n)
			r := newReader(t, 10, n.URL)
			_, err := r.read(t, tokens(1))
			if e := unavailable(t, err); e.RetryAfter != tc.retryAfter {
				t.Errorf("the caller is told to come again after %s", e.RetryAfter)
			}
			asked := n.asked()
			r.now = r.now.Add(tc.retryAfter - time.Second)
			_, err = r.read(t, tokens(1))
			if e := unavailable(t, err); n.asked() != asked || e.RetryAfter != 15*time.Second ||
				!strings.Contains(e.Message, "asked not to be called for another 1s") {
				t.Errorf("it was asked %d times before the time that it asked for: %v", n.asked()-asked, e)
			}
			if _, err := r.Status(t.Context()); err != nil || n.asked() != asked {
				t.Errorf("a check asked it %d times, %v", n.asked()-asked, err)
			}
			r.now = r.now.Add(2 * time.Second)
			n.raw, n.answer = nil, sound
			if got, err := r.read(t, tokens(1)); err != nil || amounts(got) != "1" {
				t.Errorf("after that time: %s, %v", amounts(got), err)
			}
		})
	}
}
