package chain_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/rpc"
	"github.com/holiman/uint256"

	"github.com/purserhq/purser/pkg/testkit/versus"
	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/chain"
	"github.com/purserhq/purser/services/wallet/internal/defi"
)

// marketsNode is a node with a market of each of five protocols, in which every holder has something. It remembers
// what it was asked, and answers the same question with the same bytes.
type marketsNode struct {
	*httptest.Server
	codec chain.Codec

	mu      sync.Mutex
	replies map[string]string // by the data of a call of Multicall3
	asked   []multicall       // each once, in order
}

// multicall is calls that were made as one.
type multicall struct {
	to   []common.Address
	data [][]byte
}

// benchReserves is how many reserves there are in the lending pool of a marketsNode.
const benchReserves = 10

// benchAnswer is what a contract answers, by the method.
func benchAnswer(data []byte) []byte {
	words := func(values ...uint64) (out []byte) {
		for _, v := range values {
			w := uint256.NewInt(v).Bytes32()
			out = append(out, w[:]...)
		}
		return out
	}
	is := func(signature string) bool { return bytes.Equal(data[:4], crypto.Keccak256([]byte(signature))[:4]) }
	switch {
	case is("getReservesList()"):
		out := words(32, benchReserves)
		for i := range uint64(benchReserves) {
			out = append(out, words(1000+i)...)
		}
		return out
	case is("getReserveData(address)"):
		asset := new(uint256.Int).SetBytes(data[4:]).Uint64()
		return words(0, 0, 3e16, 0, 5e16, 0, 0, asset-1000, asset+1000, asset+2000, asset+3000, 0, 0, 0, 0)
	case is("getUserConfiguration(address)"):
		return words(0b0111) // the first is supplied as collateral and borrowed, the second borrowed
	case is("getUserAccountData(address)"):
		return words(1e15, 1e14, 0, 8250, 8000, 8e18)
	case is("getReserves()"):
		return words(1e15, 1e15, 0)
	case is("getAssetInfo(uint8)"):
		return words(0, 4000+new(uint256.Int).SetBytes(data[4:]).Uint64(), 0, 0, 0, 0, 0, 0)
	case is("numAssets()"):
		return words(5)
	case is("getUserEMode(address)"), is("feeTo()"), is("kLast()"):
		return words(0)
	default:
		return words(1e18)
	}
}

func newMarketsNode(b *testing.B) *marketsNode {
	codec, err := chain.NewCodec()
	if err != nil {
		b.Fatal(err)
	}
	n := &marketsNode{codec: codec, replies: map[string]string{}}
	n.Server = httptest.NewServer(n)
	b.Cleanup(n.Close)
	return n
}

func (n *marketsNode) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body json.RawMessage
	if json.NewDecoder(r.Body).Decode(&body) != nil {
		return
	}
	type request struct {
		ID     json.RawMessage
		Method string
		Params []json.RawMessage
	}
	var one request
	var all []request
	isBatch := json.Unmarshal(body, &one) != nil
	if isBatch {
		if json.Unmarshal(body, &all) != nil {
			return
		}
	} else {
		all = []request{one}
	}
	w.Header().Set("Content-Type", "application/json")
	for i, req := range all {
		switch {
		case isBatch && i == 0:
			_, _ = w.Write([]byte("["))
		case isBatch:
			_, _ = w.Write([]byte(","))
		}
		_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":%s}`, req.ID, n.result(req.Method, req.Params))
	}
	if isBatch {
		_, _ = w.Write([]byte("]"))
	}
}

func (n *marketsNode) result(method string, params []json.RawMessage) string {
	switch method {
	case "eth_chainId":
		return `"0x1"`
	case "eth_call":
		var call struct{ Input string }
		if json.Unmarshal(params[0], &call) != nil {
			return "null"
		}
		return n.reply(call.Input)
	default:
		return fmt.Sprintf(`{"number":"0x64","hash":"%s","timestamp":"0x%x"}`, blockHash, noon().Unix())
	}
}

func (n *marketsNode) reply(input string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if known, ok := n.replies[input]; ok {
		return known
	}
	calls, err := n.codec.Calls(common.FromHex(input))
	if err != nil {
		return "null"
	}
	targets, err := n.codec.Targets(common.FromHex(input))
	if err != nil {
		return "null"
	}
	results := make([]chain.Result, len(calls))
	for i, data := range calls {
		results[i] = chain.Result{Success: true, ReturnData: benchAnswer(data)}
	}
	answer, err := n.codec.Answer(results)
	if err != nil {
		return "null"
	}
	n.asked = append(n.asked, multicall{targets, calls})
	n.replies[input] = `"` + hexutil.Encode(answer) + `"`
	return n.replies[input]
}

// Positions of 1,000 accounts in five protocols, beside the same calls of Multicall3 made one after the other with
// nothing around them but their decoding.
func BenchmarkPositionsOverHTTP(b *testing.B) {
	n := newMarketsNode(b)
	r, err := chain.NewReader(chain.Options{Nodes: map[uint64][]string{1: {n.URL}}, ChunkSize: 200,
		Log: slog.New(slog.DiscardHandler), Now: noon})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = r.Close() })
	var markets defi.Markets
	for i, protocol := range []string{"aave-v3", "compound-v3", "erc4626", "steth", "uniswap-v2"} {
		markets = append(markets, defi.Market{Protocol: protocol, Chain: 1, Contract: common.Address{0xaa, byte(i)}})
	}
	holders := make([]common.Address, 1000)
	for i := range holders {
		holders[i] = common.Address{1, byte(i >> 8), byte(i)}
	}
	service := defi.NewService(markets, r, slog.New(slog.DiscardHandler))
	at := block.Block{Number: 100, Hash: common.HexToHash(blockHash), Time: noon()}
	read := func() {
		got := service.Read(context.Background(), 1, at, holders)
		for _, m := range got[len(got)-1] {
			if m.Missing != "" || !m.HasAny() {
				b.Fatalf("%s: %+v", m.Protocol, m)
			}
		}
	}
	read() // the node learns what it is asked
	client, err := rpc.Dial(n.URL)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(client.Close)
	bare := func() {
		for _, m := range n.asked {
			data, err := n.codec.PackCalls(m.to, m.data)
			if err != nil {
				b.Fatal(err)
			}
			var out hexutil.Bytes
			err = client.CallContext(context.Background(), &out, "eth_call", map[string]any{"to": chain.Multicall3,
				"input": hexutil.Bytes(data)}, rpc.BlockNumberOrHashWithHash(common.HexToHash(blockHash), false))
			if err != nil {
				b.Fatal(err)
			}
			if got, err := n.codec.Results(out, len(m.data)); err != nil || len(got) != len(m.data) {
				b.Fatal(err)
			}
		}
	}
	versus.Run(b, versus.Comparison{Goal: 1.25, Slow: true, Raw: bare, Ours: read}) // 80 % of the bare calls' speed
	b.ReportMetric(float64(len(n.asked)), "multicalls")
}
