package chain_test

import (
	"encoding/json"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"

	"github.com/purserhq/purser/services/wallet/internal/chain"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

// What contracts say of their decimals, with Multicall3 and without.
func TestContractsAreAskedForTheirDecimals(t *testing.T) {
	answers := map[byte][]byte{1: common.LeftPadBytes([]byte{6}, 32), 2: common.LeftPadBytes([]byte{255}, 32),
		3: common.LeftPadBytes([]byte{1, 0}, 32), 4: {}, 5: {}, 6: {1}}
	want := []token.Contract{{Decimals: 6, Says: true}, {Decimals: 255, Says: true}, {}, {WithoutCode: true}, {}, {},
		{}}
	code := func(contract common.Address) any {
		if contract[0] == 4 || contract[0] == 0xca {
			return "0x"
		}
		return "0x6000"
	}
	with, without := newNode(t), newNode(t)
	with.code, without.code = code, code
	with.answer = func(targets []common.Address) any {
		results := make([]chain.Result, len(targets))
		for i, target := range targets {
			data, succeeds := answers[target[0]]
			results[i] = chain.Result{Success: succeeds, ReturnData: data}
		}
		return with.results(t, results)
	}
	without.plain = func(contract common.Address, _ json.RawMessage) any {
		if data, succeeds := answers[contract[0]]; succeeds || contract[0] == 0xca {
			return hexutil.Bytes(data)
		}
		return fault{3, "execution reverted"}
	}
	for name, n := range map[string]*node{"with Multicall3": with, "without": without} {
		got, err := newReader(t, 3, n.URL).Contracts(t.Context(), 1, tokens(7))
		if err != nil || len(got) != len(want) {
			t.Fatal(name, got, err)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("%s, token %d: %+v, want %+v", name, i+1, got[i], want[i])
			}
		}
	}
}
