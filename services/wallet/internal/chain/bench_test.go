package chain_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/rpc"

	"github.com/purserhq/purser/pkg/testkit/versus"
	"github.com/purserhq/purser/services/wallet/internal/balancesync"
	"github.com/purserhq/purser/services/wallet/internal/chain"
)

// A batch of a sync, 200 wallets of 20 tokens, beside the same calls of Multicall3 made one after the other with
// nothing around them: 200 balances each, encoded, sent and decoded.
func BenchmarkSyncOverHTTP(b *testing.B) {
	const wallets, each, perCall = 200, 20, 200
	codec, err := chain.NewCodec()
	if err != nil {
		b.Fatal(err)
	}
	results := make([]chain.Result, perCall)
	for i := range results {
		results[i] = chain.Result{Success: true, ReturnData: common.Hash{31: byte(i)}.Bytes()}
	}
	answer, err := codec.Answer(results)
	if err != nil {
		b.Fatal(err)
	}
	reply := func(id string, result string) string {
		return `{"jsonrpc":"2.0","id":` + id + `,"result":` + result + `}`
	}
	aggregate := `"` + hexutil.Encode(answer) + `"`
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		id := string(body[bytes.Index(body, []byte(`"id":`))+5:])
		id = id[:bytes.IndexByte([]byte(id), ',')]
		w.Header().Set("Content-Type", "application/json")
		switch {
		case bytes.Contains(body, []byte("eth_chainId")):
			_, _ = io.WriteString(w, reply(id, `"0x1"`))
		case bytes.Contains(body, []byte("eth_getBlockByNumber")):
			_, _ = io.WriteString(w, reply(id, fmt.Sprintf(`{"number":"0x64","hash":"%s","timestamp":"0x%x"}`,
				blockHash, noon().Unix())))
		default:
			_, _ = io.WriteString(w, reply(id, aggregate))
		}
	}))
	b.Cleanup(node.Close)
	list := tokens(each)
	var requests []balancesync.Request
	for i := range wallets {
		requests = append(requests, balancesync.Request{Holder: common.Address{byte(i), 1}, Tokens: list})
	}
	client, err := rpc.Dial(node.URL)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(client.Close)
	bare := func() {
		for call := range wallets * each / perCall {
			data, err := codec.PackAll(requests[call*perCall/each : (call+1)*perCall/each])
			if err != nil {
				b.Fatal(err)
			}
			var out hexutil.Bytes
			err = client.CallContext(context.Background(), &out, "eth_call", map[string]any{"to": chain.Multicall3,
				"input": hexutil.Bytes(data)}, rpc.BlockNumberOrHashWithHash(common.HexToHash(blockHash), false))
			if err != nil {
				b.Fatal(err)
			}
			if got, err := codec.Unpack(out, perCall); err != nil || len(got) != perCall {
				b.Fatal(err)
			}
		}
	}
	r, err := chain.NewReader(chain.Options{Nodes: map[uint64][]string{1: {node.URL}}, ChunkSize: perCall,
		Log: slog.New(slog.DiscardHandler), Now: noon})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = r.Close() })
	versus.Run(b, versus.Comparison{Goal: 1.25, Slow: true, Raw: bare, Ours: func() { // 80 % of the bare calls' speed
		if got, err := r.ReadBatch(context.Background(), 1, 0, requests); err != nil || len(got) != wallets {
			b.Fatal(err)
		}
	}})
}
