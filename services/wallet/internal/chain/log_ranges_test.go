package chain_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"

	"github.com/purserhq/purser/services/wallet/internal/transaction"
)

// logNode is a node of a chain with a transfer to holder in every 100th block, which refuses some questions for
// events.
type logNode struct {
	*node
	holder common.Address
	// refuse, when it isn't nil, answers a question for the events of some blocks, of which found has a transfer.
	refuse func(w http.ResponseWriter, id json.RawMessage, blocks, found uint64)

	mu    sync.Mutex
	asked []uint64 // of how many blocks, in the order of the questions
}

// newLogNode starts a node that refuses a question for more than limit blocks, or results when byResults.
func newLogNode(t *testing.T, limit uint64, byResults bool,
	answer func(w http.ResponseWriter, id json.RawMessage)) *logNode {
	t.Helper()
	n := &logNode{node: newNode(t), holder: common.Address{19: 0xaa}}
	n.refuse = func(w http.ResponseWriter, id json.RawMessage, blocks, found uint64) {
		if blocks > limit && !byResults || found > limit && byResults {
			answer(w, id)
		}
	}
	n.head = blockJSON(1_000_000, noon())
	n.past = func(number uint64) any {
		b := blockJSON(number, noon().Add(-time.Duration(1_000_000-number)*time.Second))
		b["hash"] = common.BigToHash(new(big.Int).SetUint64(number + 1))
		return b
	}
	n.plain = func(common.Address, json.RawMessage) any { return "0x1" }
	n.raw = func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var call rpcCall
		if json.Unmarshal(body, &call) == nil && call.Method == "eth_getLogs" {
			n.serveLogs(t, w, call)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		n.serve(w, r)
	}
	return n
}

func (n *logNode) serveLogs(t *testing.T, w http.ResponseWriter, call rpcCall) {
	var filter struct{ FromBlock, ToBlock hexutil.Uint64 }
	if err := json.Unmarshal(call.Params[0], &filter); err != nil {
		t.Error(err)
	}
	from, to := uint64(filter.FromBlock), uint64(filter.ToBlock)
	n.mu.Lock()
	n.asked = append(n.asked, to-from+1)
	n.mu.Unlock()
	answered := &answeredWriter{ResponseWriter: w}
	if n.refuse(answered, call.ID, to-from+1, to/100-(from-1)/100); answered.used {
		return
	}
	found := []any{}
	for number := (from + 99) / 100 * 100; number <= to && !asksForSenders(call); {
		found = append(found, map[string]any{"address": common.Address{7},
			"data": common.BigToHash(new(big.Int).SetUint64(number)),
			"topics": []common.Hash{
				common.HexToHash("0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"),
				{31: 0xbb}, common.BytesToHash(n.holder[:])},
			"blockNumber": hexutil.Uint64(number), "transactionHash": common.Hash{1}, "transactionIndex": "0x0",
			"blockHash": common.BigToHash(new(big.Int).SetUint64(number + 1)), "logIndex": "0x0"})
		number += 100
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"jsonrpc": "2.0", "id": call.ID, "result": found})
}

// asksForSenders reports whether a question is for transfers from some holders. There are none: all are to holder.
func asksForSenders(call rpcCall) bool {
	var filter struct{ Topics []any }
	return json.Unmarshal(call.Params[0], &filter) == nil && len(filter.Topics) == 2
}

// answeredWriter notes whether there was an answer.
type answeredWriter struct {
	http.ResponseWriter
	used bool
}

func (w *answeredWriter) WriteHeader(status int) {
	w.used = true
	w.ResponseWriter.WriteHeader(status)
}

// errorAnswer answers with an error of JSON-RPC and an HTTP status.
func errorAnswer(status, code int, text string) func(http.ResponseWriter, json.RawMessage) {
	return func(w http.ResponseWriter, id json.RawMessage) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]any{"jsonrpc": "2.0", "id": id,
			"error": map[string]any{"code": code, "message": text}})
	}
}

// Providers bound the blocks or the results of a question for events, and refuse in words and codes of their own.
func TestARangeThatIsRefusedIsAskedForInParts(t *testing.T) {
	t.Parallel()
	const last = 40_000 // blocks with 400 transfers
	for _, tc := range []struct {
		name      string
		limit     uint64
		byResults bool
		answer    func(http.ResponseWriter, json.RawMessage)
	}{
		{"500 blocks, -32602", 500, false, errorAnswer(200, -32602, "block range exceeds the maximum of 500")},
		{"500 blocks, -32005 as its name", 500, false, errorAnswer(200, -32005, "limit exceeded")},
		{"2,000 blocks, -32005", 2_000, false, errorAnswer(200, -32005, "range of blocks too wide, at most 2000")},
		{"2,000 blocks, -32000", 2_000, false, errorAnswer(200, -32000, "exceed maximum block range: 2000")},
		{"10,000 blocks, -32600", 10_000, false, errorAnswer(200, -32600, "the block range is too wide")},
		{"10,000 blocks, -32614 with HTTP 413", 10_000, false,
			errorAnswer(413, -32614, "eth_getLogs is limited to a 10,000 range")},
		{"800 blocks, -32047", 800, false, errorAnswer(200, -32047, "range too large: at most 800")},
		{"2,000 blocks, -32600 with HTTP 400", 2_000, false,
			errorAnswer(400, -32600, "eth_getLogs takes a block range of up to 2000")},
		{"40 results, -32602 with HTTP 400", 40, true, errorAnswer(400, -32602, "log response size exceeded")},
		{"10 results, -32005 with a proposal", 10, true,
			errorAnswer(200, -32005, "query returned more than 10 results. Try this block range [0x1, 0x2]")},
		{"10 results, -32005 with HTTP 400", 10, true, errorAnswer(400, -32005, "too many logs")},
		{"1,000 blocks, and hangs at more", 1_000, false, func(w http.ResponseWriter, _ json.RawMessage) {
			<-time.After(6 * time.Second) // a call may take 5
			w.WriteHeader(http.StatusGatewayTimeout)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			n := newLogNode(t, tc.limit, tc.byResults, tc.answer)
			r := newReader(t, 10, n.URL)
			next, found := uint64(1), 0
			upTo := func(last uint64) {
				for next <= last {
					got, err := r.Movements(t.Context(), 1, []common.Address{n.holder},
						transaction.Range{From: next, To: last})
					if err != nil || got.Through.Number < next {
						t.Fatalf("from block %d: %+v, %v", next, got.Through, err)
					}
					for _, m := range got.Found {
						if found++; m.At.Number != uint64(100*found) || m.Amount.Uint64() != m.At.Number {
							t.Fatalf("movement %d is %+v", found, m)
						}
					}
					next = got.Through.Number + 1
				}
			}
			few := uint64(last)
			if strings.Contains(tc.name, "hangs") {
				few = 1_000 // each refusal takes 5 seconds
			}
			upTo(few)
			if r.log.Len() > 0 {
				t.Errorf("logged %s", r.log)
			}
			n.refuse = func(http.ResponseWriter, json.RawMessage, uint64, uint64) {}
			upTo(4 * last)
			if found != 4*last/100 {
				t.Errorf("found %d movements of %d", found, 4*last/100)
			}
			if widest := n.widest(); widest <= max(tc.limit, firstRange) {
				t.Errorf("asked for %d blocks at most after the limit was lifted", widest)
			}
		})
	}
}

// firstRange is of how many blocks a node is asked for events at first.
const firstRange = 2_000

func (n *logNode) widest() (blocks uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range n.asked {
		blocks = max(blocks, a)
	}
	return blocks
}

// A node that is called too often isn't asked for parts.
func TestACallTooOftenIsNoRefusalOfARange(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(http.ResponseWriter, json.RawMessage){
		"HTTP 429":       errorAnswer(429, -32005, "block range"),
		"a day's number": errorAnswer(200, -32005, "daily request count exceeded, request rate limited"),
		"a rate":         errorAnswer(200, -32000, "rate limit exceeded"),
		"a plan":         errorAnswer(200, -32005, "the limit of requests per second of your plan is exceeded"),
		"with HTTP 400":  errorAnswer(400, -32005, "too many requests"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newLogNode(t, 0, false, answer)
			r := newReader(t, 10, n.URL)
			_, err := r.Movements(t.Context(), 1, []common.Address{n.holder}, transaction.Range{From: 1, To: 40_000})
			e := unavailable(t, err)
			if e.Metadata["node_reasons"] != "1=RATE_LIMITED" || fmt.Sprint(n.asked) != "[2000]" {
				t.Errorf("told %v after questions for the events of %v blocks", e.Metadata, n.asked)
			}
		})
	}
}
