package chain_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/ethereum/go-ethereum/common"

	"github.com/purserhq/purser/services/wallet/internal/chain"
	"github.com/purserhq/purser/services/wallet/internal/token"
	"github.com/purserhq/purser/services/wallet/internal/transaction"
)

// eventAnswer is a node's answer with a transfer to a holder.
func eventAnswer(holder common.Address, number, hash string) []byte {
	return fmt.Appendf(nil, `[{"address":"0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed","topics":[
		"0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef","0x%064x","0x%064x"],"data":"0x%064x",
		"blockNumber":%q,"blockHash":%q,"transactionHash":"0x%064x","transactionIndex":"0x0","logIndex":"0x1",
		"removed":false}]`, 1, holder.Big(), 5, number, hash, 9)
}

// What a node answers to a question for events is refused, or is of the blocks and holders that were asked for.
func FuzzEvents(f *testing.F) {
	holder := common.HexToAddress("0x70997970C51812dc3A010C7d01b50e0d17dc79C8")
	f.Add(eventAnswer(holder, "0x7", fmt.Sprintf("0x%064x", 7)))
	f.Add(eventAnswer(holder, "0x70", fmt.Sprintf("0x%064x", 8)))
	f.Add([]byte(`[{"address":null,"topics":[],"data":"0x"}]`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, reply []byte) {
		got, err := chain.TransfersIn(reply, []common.Address{holder}, transaction.Range{From: 5, To: 9})
		if err != nil {
			return
		}
		for _, m := range got {
			if m.Holder != holder || m.At.Number < 5 || m.At.Number > 9 || m.Amount.IsZero() || m.LogIndex < 0 ||
				m.TransactionIndex < 0 || m.TransactionIndex >= transaction.AdjustmentIndex {
				t.Errorf("%s: %+v", reply, m)
			}
		}
	})
}

// What a contract says of itself can be stored and shown, whatever it says.
func FuzzMetadata(f *testing.F) {
	word := func(n byte) []byte { return common.Hash{31: n}.Bytes() }
	f.Add(slices.Concat(word(32), word(3), []byte("DAI"), make([]byte, 29)), []byte("MKR"+strings.Repeat("\x00", 29)),
		word(18))
	f.Add(slices.Concat(word(32), word(200), []byte("short")), []byte{}, word(255))
	ones := bytes.Repeat([]byte{0xff}, 32)
	f.Add(slices.Concat(word(32), ones), []byte("\u202e\x00<a>"), ones)
	f.Fuzz(func(t *testing.T, symbol, name, decimals []byte) {
		m := chain.MetadataIn(common.Address{1}, symbol, name, decimals)
		for _, text := range []string{m.Symbol, m.Name} {
			if !utf8.ValidString(text) || len(text) > token.MaxTextBytes ||
				strings.ContainsFunc(text, unicode.IsControl) || strings.ContainsFunc(text, isFormat) {
				t.Errorf("%q", text)
			}
		}
		if m.Symbol == "" || !m.Known && m.Decimals != 0 || m.Known != (len(decimals) == 32 &&
			bytes.Equal(decimals[:31], make([]byte, 31))) {
			t.Errorf("%x: %+v", decimals, m)
		}
	})
}

func isFormat(r rune) bool { return unicode.Is(unicode.Cf, r) }

// The same answers over HTTP: they are of blocks of which the node tells the times.
func TestEventsOfANodeAreOfWhatWasAskedFor(t *testing.T) {
	holder := common.HexToAddress("0x70997970C51812dc3A010C7d01b50e0d17dc79C8")
	var events atomic.Pointer[string]
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
	t.Cleanup(n.Close)
	r, err := chain.NewReader(chain.Options{Nodes: map[uint64][]string{1: {n.URL}}, ChunkSize: 10,
		Log: slog.New(slog.DiscardHandler), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	for reply, want := range map[string]int{
		string(eventAnswer(holder, "0x7", fmt.Sprintf("0x%064x", 7))):  1,
		string(eventAnswer(holder, "0x7", fmt.Sprintf("0x%064x", 8))):  -1, // another block 7
		string(eventAnswer(holder, "0x70", fmt.Sprintf("0x%064x", 8))): -1,
		`[{"address":null,"topics":[],"data":"0x"}]`:                   0,
		`null`: 0,
	} {
		events.Store(&reply)
		got, err := r.Movements(t.Context(), 1, []common.Address{holder}, transaction.Range{From: 5, To: 9})
		if (err != nil) != (want < 0) || want >= 0 && len(got.Found) != want {
			t.Errorf("%s: %+v, %v", reply, got, err)
		}
		for _, m := range got.Found {
			if m.Holder != holder || m.At.Number != 7 || m.At.Time.Unix() != 1_700_000_420 || m.Amount.Uint64() != 5 {
				t.Errorf("%s: %+v", reply, m)
			}
		}
	}
}

// eventsAnswer is a node's answer to a call: each block is a minute after the one before, and nobody holds coins.
func eventsAnswer(call json.RawMessage, events string) json.RawMessage {
	var c struct {
		ID     json.RawMessage
		Method string
		Params []json.RawMessage
	}
	_ = json.Unmarshal(call, &c)
	result := []byte(`"0x1"`)
	switch c.Method {
	case "eth_getLogs":
		result = []byte(events)
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
