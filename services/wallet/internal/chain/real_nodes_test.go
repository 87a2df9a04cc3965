package chain_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/rpc"

	"github.com/purserhq/purser/services/internal/servicetest"
	"github.com/purserhq/purser/services/wallet/internal/chain"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

// A new chain has no Multicall3.
func TestBalancesOfRealNodesWithoutMulticall3(t *testing.T) {
	for _, kind := range servicetest.NodeKinds() {
		t.Run(kind, func(t *testing.T) {
			n := servicetest.StartNode(t, kind)
			r := newReader(t, 10, string(n))
			r.now = time.Now()
			native := token.Token{ID: "native", Chain: 1, Native: true}
			holder := common.HexToAddress(servicetest.NodeHolder)
			got, err := r.Read(t.Context(), 1, 0, holder, []token.Token{native, tokens(1)[0]})
			if err != nil || amounts(got) != "10000000000000000000000 -" {
				t.Fatalf("read %s, %v", amounts(got), err)
			}
			if r.log.Len() > 0 {
				t.Errorf("logged %s", r.log)
			}
		})
	}
}

// The words of nodes for what they don't have, and what they are taken for.
func TestTheErrorsOfRealNodes(t *testing.T) {
	holder := common.HexToAddress(servicetest.NodeHolder)
	unknown := map[string]any{"blockHash": common.Hash{31: 0xff}}
	for _, kind := range servicetest.NodeKinds() {
		t.Run(kind, func(t *testing.T) {
			n, err := rpc.DialContext(t.Context(), string(servicetest.StartNode(t, kind)))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(n.Close)
			invalid := map[string]any{"data": "0xfe"} // the opcode INVALID
			reverts := map[string]any{"data": "0x60006000fd"}
			spins := map[string]any{"data": "0x5b600056", "gas": "0x186a0"} // in a loop
			for _, tc := range []struct {
				name, method string
				params       []any
				want         string
			}{
				{"a block by an unknown hash", "eth_call", []any{map[string]any{"to": holder}, unknown},
					"unknown block"},
				{"a balance by an unknown hash", "eth_getBalance", []any{holder, unknown}, "unknown block"},
				{"code by an unknown hash", "eth_getCode", []any{holder, unknown}, "unknown block"},
				{"a block of the future", "eth_call", []any{map[string]any{"to": holder}, "0x64"}, "unknown block"},
				{"the opcode INVALID", "eth_call", []any{invalid, "latest"}, "reverted"},
				{"a revert", "eth_call", []any{reverts, "latest"}, "reverted"},
				{"a call that eats its gas", "eth_call", []any{spins, "latest"}, "refused"},
				{"no such method", "eth_none", nil, "unsupported"},
			} {
				var result any
				err := n.CallContext(t.Context(), &result, tc.method, tc.params...)
				if got := chain.KindOf(err); got != tc.want {
					t.Errorf("%s is taken for %q: %v", tc.name, got, err)
				}
			}
		})
	}
}

// Contracts that do what anybody's may: each is unread, and the balances around it are right, whatever a node makes of
// a call that eats the gas of the others. Anvil cuts theirs to 1/64, and Multicall3 may end in OutOfGas itself.
func TestHostileContractsOnRealNodesAreUnreadAlone(t *testing.T) {
	text, err := os.ReadFile(filepath.FromSlash("../../../devstack/chain/artifacts/Multicall3.json"))
	if err != nil {
		t.Fatal(err)
	}
	var multicall3 struct{ Runtime string }
	if err := json.Unmarshal(text, &multicall3); err != nil {
		t.Fatal(err)
	}
	const answersSeven = "0x600760005260206000f3"
	const loop, invalid = "0x5b600056", "0xfe" // both eat all of the gas
	codes := []string{answersSeven, loop, answersSeven, invalid, answersSeven,
		"0x00", answersSeven, // success with nothing, as WETH9 answers what it doesn't know
		"0x600760005260406000f3", answersSeven, // 64 bytes
		"0x60006000fd", loop, answersSeven} // a revert
	for _, kind := range servicetest.NodeKinds() {
		for _, with := range []string{"a call for each", "Multicall3"} {
			t.Run(kind+" by "+with, func(t *testing.T) {
				n := servicetest.StartNode(t, kind)
				var list []token.Token
				for i, code := range codes {
					contract := common.Address{0xc0, byte(i)}
					n.Call(t, new(any), kind+"_setCode", contract, code)
					list = append(list, token.Token{ID: contract.Hex(), Chain: 1, Contract: contract})
				}
				if with == "Multicall3" {
					n.Call(t, new(any), kind+"_setCode", chain.Multicall3, multicall3.Runtime)
				}
				n.Call(t, new(any), "evm_mine")
				r := newReader(t, 200, string(n))
				r.now = time.Now()
				got, err := r.read(t, list)
				if err != nil || amounts(got) != "7 - 7 - 7 - 7 - 7 - - 7" {
					t.Errorf("read %s, %v", amounts(got), err)
				}
				if r.log.Len() > 0 {
					t.Errorf("logged %s", r.log)
				}
			})
		}
	}
}
