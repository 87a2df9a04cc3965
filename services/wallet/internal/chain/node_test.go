package chain_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"

	"github.com/purserhq/purser/services/wallet/internal/chain"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

// noon is the time of the readers and of the nodes' newest block.
func noon() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

// fault is a JSON-RPC error.
type fault struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

// node is a JSON-RPC node whose answers a test can change.
type node struct {
	*httptest.Server
	codec chain.Codec

	// id, head and answer say what is returned; a fault is an error.
	id     any
	head   any
	answer func(targets []common.Address) any
	// atBlock, when set, is answer for the block of a hash.
	atBlock func(block common.Hash, targets []common.Address) any
	// past, when set, answers with the block of a number; code with a
	// contract's code.
	past func(number uint64) any
	code func(contract common.Address) any
	// plain, when set, answers eth_call to a contract and, for the zero address,
	// eth_getBalance, at the block of the argument, without knowing their data.
	plain func(contract common.Address, block json.RawMessage) any
	// logs, when set, answers eth_getLogs.
	logs func() any
	// raw, when set, answers everything instead.
	raw http.HandlerFunc
	// limit of a request's size in bytes, when above 0.
	limit int64
	// batch, when set, answers batches instead, given the calls and their replies.
	batch func(w http.ResponseWriter, calls []rpcCall, replies []any)

	mu      sync.Mutex
	calls   int   // HTTP requests in all
	batches int   // batches among them
	chunks  []int // sizes of the aggregate3 calls
	blocks  map[string]bool
}

const blockHash = "0x00000000000000000000000000000000000000000000000000000000000000aa"

func blockJSON(number uint64, at time.Time) map[string]any {
	return map[string]any{
		"number": hexutil.Uint64(number), "hash": blockHash, "timestamp": hexutil.Uint64(at.Unix()),
		// Fields of the chain's own, from which nobody can compute the hash.
		"extDataHash": "0x01",
	}
}

// newNode starts a node of chain 1 that answers correctly; a token's balance is the
// first byte of its contract.
func newNode(t testing.TB) *node {
	t.Helper()
	codec, err := chain.NewCodec()
	if err != nil {
		t.Fatal(err)
	}
	n := &node{codec: codec, id: "0x1", head: blockJSON(100, noon()), blocks: map[string]bool{}}
	n.answer = func(targets []common.Address) any {
		results := make([]chain.Result, len(targets))
		for i, target := range targets {
			results[i] = chain.Result{Success: true, ReturnData: common.LeftPadBytes(target[:1], 32)}
		}
		return n.results(t, results)
	}
	n.Server = httptest.NewServer(n)
	t.Cleanup(n.Close)
	return n
}

func (n *node) results(t testing.TB, results []chain.Result) any {
	t.Helper()
	data, err := n.codec.Answer(results)
	if err != nil {
		t.Error(err)
	}
	return hexutil.Bytes(data)
}

func (n *node) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	n.calls++
	n.mu.Unlock()
	if n.raw != nil {
		n.raw(w, r)
		return
	}
	n.serve(w, r)
}

// serve answers as the node is set.
func (n *node) serve(w http.ResponseWriter, r *http.Request) {
	if n.limit > 0 && r.ContentLength > n.limit {
		http.Error(w, "too large", http.StatusRequestEntityTooLarge)
		return
	}
	var body json.RawMessage
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if body[0] == '[' {
		n.serveBatch(w, body)
		return
	}
	var call rpcCall
	if err := json.Unmarshal(body, &call); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	_ = json.NewEncoder(w).Encode(n.reply(call)) // fails if the reader has closed the connection
}

// rpcCall is one call of JSON-RPC.
type rpcCall struct {
	ID     json.RawMessage
	Method string
	Params []json.RawMessage
}

func (n *node) serveBatch(w http.ResponseWriter, body []byte) {
	n.mu.Lock()
	n.batches++
	n.mu.Unlock()
	var calls []rpcCall
	if err := json.Unmarshal(body, &calls); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var replies []any
	for _, call := range calls {
		replies = append(replies, n.reply(call))
	}
	if n.batch != nil {
		n.batch(w, calls, replies)
		return
	}
	_ = json.NewEncoder(w).Encode(replies)
}

// noBatches is how many nodes refuse batches.
func noBatches(w http.ResponseWriter, _ []rpcCall, _ []any) {
	http.Error(w, "batches are not supported", http.StatusBadRequest)
}

func (n *node) reply(call rpcCall) map[string]any {
	reply := map[string]any{"jsonrpc": "2.0", "id": call.ID}
	result := n.call(call.Method, call.Params)
	if f, failed := result.(fault); failed {
		reply["error"] = f
	} else if m, isMap := result.(map[string]any); isMap && m["code"] != nil { // with data
		reply["error"] = m
	} else {
		reply["result"] = result
	}
	return reply
}

func (n *node) call(method string, params []json.RawMessage) any {
	switch method {
	case "eth_chainId":
		return n.id
	case "eth_getBlockByNumber":
		var number hexutil.Uint64
		if n.past == nil || json.Unmarshal(params[0], &number) != nil {
			return n.head
		}
		return n.past(uint64(number))
	case "eth_getLogs":
		if n.logs == nil {
			return fault{-32601, "the method eth_getLogs does not exist"}
		}
		return n.logs()
	case "eth_getCode":
		var contract common.Address
		if err := json.Unmarshal(params[0], &contract); err != nil {
			return fault{-32602, err.Error()}
		}
		if n.code == nil {
			return "0x"
		}
		return n.code(contract)
	case "eth_getBalance":
		if n.plain == nil {
			return fault{-32601, "the method eth_getBalance does not exist"}
		}
		return n.plain(common.Address{}, params[1])
	case "eth_call":
		var call struct {
			To          common.Address
			Input, Data hexutil.Bytes
		}
		if err := json.Unmarshal(params[0], &call); err != nil {
			return fault{-32602, err.Error()}
		}
		if n.plain != nil {
			return n.plain(call.To, params[1])
		}
		targets, err := n.codec.Targets(append(call.Input, call.Data...))
		if err != nil {
			return fault{-32602, err.Error()}
		}
		n.mu.Lock()
		n.chunks = append(n.chunks, len(targets))
		n.blocks[string(params[1])] = true
		n.mu.Unlock()
		if n.atBlock != nil {
			var at struct{ BlockHash common.Hash }
			if err := json.Unmarshal(params[1], &at); err != nil {
				return fault{-32602, err.Error()}
			}
			return n.atBlock(at.BlockHash, targets)
		}
		return n.answer(targets)
	default:
		return fault{-32601, fmt.Sprintf("the method %s does not exist", method)}
	}
}

// asked is how many requests the node had.
func (n *node) asked() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.calls
}

// tokens are n tokens of chain 1; the balance of the i-th is i+1.
func tokens(n int) []token.Token {
	out := make([]token.Token, n)
	for i := range out {
		out[i] = token.Token{ID: fmt.Sprint("token ", i), Chain: 1, Contract: common.Address{byte(i + 1), 19: 1}}
	}
	return out
}
