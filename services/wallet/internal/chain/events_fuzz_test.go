package chain_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/purserhq/purser/services/wallet/internal/chain"
	"github.com/purserhq/purser/services/wallet/internal/transaction"
)

// What a node answers to a question for events is refused, or is of the blocks and holders that were asked for.
func FuzzEvents(f *testing.F) {
	holder := common.HexToAddress("0x70997970C51812dc3A010C7d01b50e0d17dc79C8")
	event := func(number, hash string) string {
		return fmt.Sprintf(`[{"address":"0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed","topics":[
			"0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef","0x%064x","0x%064x"],"data":"0x%064x",
			"blockNumber":%q,"blockHash":%q,"transactionHash":"0x%064x","transactionIndex":"0x0","logIndex":"0x1",
			"removed":false}]`, 1, holder.Big(), 5, number, hash, 9)
	}
	f.Add([]byte(event("0x7", fmt.Sprintf("0x%064x", 7))))
	f.Add([]byte(event("0x70", fmt.Sprintf("0x%064x", 8))))
	f.Add([]byte(`[{"address":null,"topics":[],"data":"0x"}]`))
	f.Add([]byte(`null`))
	var events atomic.Pointer[[]byte]
	n := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var batch []json.RawMessage
		var body json.RawMessage
		if json.NewDecoder(r.Body).Decode(&body) != nil {
			return
		}
		if json.Unmarshal(body, &batch) != nil {
			_, _ = w.Write(eventsAnswer(body, *events.Load()))
			return
		}
		answers := make([]json.RawMessage, len(batch))
		for i, call := range batch {
			answers[i] = eventsAnswer(call, *events.Load())
		}
		_ = json.NewEncoder(w).Encode(answers)
	}))
	f.Cleanup(n.Close)
	r, err := chain.NewReader(chain.Options{Nodes: map[uint64][]string{1: {n.URL}}, ChunkSize: 10,
		Log: slog.New(slog.DiscardHandler), Now: time.Now})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = r.Close() })
	f.Fuzz(func(t *testing.T, reply []byte) {
		if !json.Valid(reply) {
			return
		}
		events.Store(&reply)
		got, err := r.Movements(t.Context(), 1, []common.Address{holder}, transaction.Range{From: 5, To: 9})
		if err != nil {
			return
		}
		for _, m := range got.Found {
			if m.Holder != holder || m.At.Number < 5 || m.At.Number > 9 || m.Amount.IsZero() || m.LogIndex < -2 ||
				m.TransactionIndex < 0 || m.At.Time.IsZero() {
				t.Errorf("%s: %+v", reply, m)
			}
		}
	})
}

// eventsAnswer is a node's answer to a call: each block is a minute after the one before, and nobody holds coins.
func eventsAnswer(call json.RawMessage, events []byte) json.RawMessage {
	var c struct {
		ID     json.RawMessage
		Method string
		Params []json.RawMessage
	}
	_ = json.Unmarshal(call, &c)
	result := []byte(`"0x1"`)
	switch c.Method {
	case "eth_getLogs":
		result = events
	case "eth_getBalance":
		result = []byte(`"0x0"`)
	case "eth_getBlockByNumber":
		number := uint64(9)
		_, _ = fmt.Sscanf(string(c.Params[0]), `"0x%x"`, &number)
		result = fmt.Appendf(nil, `{"number":"0x%x","hash":"0x%064x","timestamp":"0x%x"}`, number, number,
			1_700_000_000+60*number)
	}
	return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"result":%s}`, c.ID, result)
}
