package chain_test

import (
	"bytes"
	"encoding/json"
	"io"
	"math/big"
	"net/http"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"

	"github.com/purserhq/purser/services/wallet/internal/chain"
	"github.com/purserhq/purser/services/wallet/internal/transaction"
)

// One node adds an event, leaves one out, or changes one.
func TestEventsNeedTheQuorumToo(t *testing.T) {
	mine, other := common.Address{19: 0xaa}, common.Address{19: 0xbb}
	event := func(number, amount uint64) map[string]any {
		return map[string]any{"address": common.Address{7}, "data": common.BigToHash(new(big.Int).SetUint64(amount)),
			"topics": []common.Hash{common.HexToHash(
				"0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"),
				common.BytesToHash(other[:]), common.BytesToHash(mine[:])},
			"blockNumber": hexutil.Uint64(number), "blockHash": common.Hash{31: byte(number + 1)},
			"transactionHash": common.Hash{1}, "transactionIndex": "0x0", "logIndex": "0x0"}
	}
	newLogNode := func(events ...any) string {
		n := trueNode(t)
		n.raw = func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			var call rpcCall
			if json.Unmarshal(body, &call) == nil && call.Method == "eth_getLogs" {
				found := []any{}
				if strings.Contains(string(call.Params[0]), ",null,") { // those to the holders
					found = events
				}
				_ = json.NewEncoder(w).Encode(map[string]any{"jsonrpc": "2.0", "id": call.ID, "result": found})
				return
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
			n.serve(w, r)
		}
		n.plain = func(common.Address, json.RawMessage) any { return "0x1" }
		return n.URL
	}
	sound, alike := newLogNode(event(50, 7), event(60, 8)), newLogNode(event(50, 7), event(60, 8))
	for name, liar := range map[string]string{
		"adds one":       newLogNode(event(50, 7), event(55, 1), event(60, 8)),
		"leaves one out": newLogNode(event(50, 7)),
		"changes one":    newLogNode(event(50, 7), event(60, 9)),
		"has none":       newLogNode(),
	} {
		t.Run(name, func(t *testing.T) {
			search := func(urls ...string) (transaction.Reading, error) {
				return newQuorumReader(t, 2, urls...).Movements(t.Context(), 1, []common.Address{mine},
					transaction.Range{From: 40, To: 90})
			}
			if got, err := search(liar, sound); err == nil ||
				!strings.Contains(err.Error(), "have to agree on the events of blocks 40 to 90") {
				t.Errorf("of two: %v, %v", got, err)
			}
			got, err := search(liar, sound, alike)
			if err != nil || len(got.Found) != 2 || got.Found[1].Amount.Uint64() != 8 || got.Through.Number != 90 {
				t.Errorf("of three: %+v, %v", got, err)
			}
			control, err := newQuorumReader(t, 1, liar, sound).Movements(t.Context(), 1, []common.Address{mine},
				transaction.Range{From: 40, To: 90})
			if err != nil || len(control.Found) == 2 && control.Found[1].Amount.Uint64() == 8 {
				t.Errorf("the control is told the truth: %+v, %v", control, err)
			}
		})
	}
}

func TestWhatContractsSayNeedsTheQuorumToo(t *testing.T) {
	says := func(decimals byte) string {
		n := trueNode(t)
		n.atBlock = func(_ common.Hash, targets []common.Address) any {
			results := make([]chain.Result, len(targets))
			for i := range results {
				results[i] = chain.Result{Success: true, ReturnData: common.LeftPadBytes([]byte{decimals}, 32)}
			}
			return n.results(t, results)
		}
		return n.URL
	}
	liar, a, b := says(2), says(6), says(6)
	if got, err := newQuorumReader(t, 2, liar, a).Contracts(t.Context(), 1, tokens(1)); err == nil {
		t.Errorf("of two: %v", got)
	}
	got, err := newQuorumReader(t, 2, liar, a, b).Contracts(t.Context(), 1, tokens(1))
	if err != nil || got[0].Decimals != 6 {
		t.Errorf("of three: %v, %v", got, err)
	}
	got, err = newQuorumReader(t, 1, liar, a).Contracts(t.Context(), 1, tokens(1))
	if err != nil || got[0].Decimals != 2 {
		t.Errorf("the control: %v, %v", got, err)
	}
}
