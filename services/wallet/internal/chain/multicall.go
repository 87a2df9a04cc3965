package chain

import (
	"fmt"
	"strings"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"
	"github.com/holiman/uint256"

	"github.com/purserhq/purser/services/wallet/internal/token"
)

// multicallABI is the part of Multicall3 that is used, and ERC-20's balanceOf
// (EIP-20).
const multicallABI = `[
 {"type":"function","name":"aggregate3","stateMutability":"payable",
  "inputs":[{"name":"calls","type":"tuple[]","components":[
    {"name":"target","type":"address"},{"name":"allowFailure","type":"bool"},{"name":"callData","type":"bytes"}]}],
  "outputs":[{"name":"returnData","type":"tuple[]","components":[
    {"name":"success","type":"bool"},{"name":"returnData","type":"bytes"}]}]},
 {"type":"function","name":"getEthBalance","stateMutability":"view",
  "inputs":[{"name":"addr","type":"address"}],"outputs":[{"name":"balance","type":"uint256"}]},
 {"type":"function","name":"balanceOf","stateMutability":"view",
  "inputs":[{"name":"owner","type":"address"}],"outputs":[{"name":"balance","type":"uint256"}]}]`

// Multicall3 is the contract's address on every chain that has it.
const Multicall3 = "0xcA11bde05977b3631167028862bE2a173976CA11"

// codec packs questions for Multicall3 and reads its answers.
type codec struct {
	abi     abi.ABI
	address common.Address
}

type call3 struct {
	Target       common.Address
	AllowFailure bool
	CallData     []byte
}

type result3 struct {
	Success    bool
	ReturnData []byte
}

func newCodec() (*codec, error) {
	parsed, err := abi.JSON(strings.NewReader(multicallABI))
	if err != nil {
		return nil, fmt.Errorf("multicall ABI: %w", err)
	}
	return &codec{abi: parsed, address: common.HexToAddress(Multicall3)}, nil
}

// pack asks for holder's balance of each token in one call.
func (c *codec) pack(holder common.Address, tokens []token.Token) ([]byte, error) {
	calls := make([]call3, len(tokens))
	for i, t := range tokens {
		target, method := t.Contract, "balanceOf"
		if t.Native {
			target, method = c.address, "getEthBalance"
		}
		data, err := c.abi.Pack(method, holder)
		if err != nil {
			return nil, fmt.Errorf("pack %s: %w", method, err)
		}
		calls[i] = call3{Target: target, AllowFailure: true, CallData: data}
	}
	data, err := c.abi.Pack("aggregate3", calls)
	if err != nil {
		return nil, fmt.Errorf("pack aggregate3: %w", err)
	}
	return data, nil
}

// unpack reads n balances. One that failed or isn't a single word is nil: a
// token that answers anything else has no balance to speak of, least of all
// zero.
func (c *codec) unpack(reply []byte, n int) ([]*uint256.Int, error) {
	var results []result3
	if err := c.abi.UnpackIntoInterface(&results, "aggregate3", reply); err != nil {
		return nil, fmt.Errorf("unpack aggregate3: %w", err)
	}
	if len(results) != n {
		return nil, fmt.Errorf("aggregate3 answered %d of %d calls", len(results), n)
	}
	amounts := make([]*uint256.Int, n)
	for i, r := range results {
		if r.Success && len(r.ReturnData) == 32 {
			amounts[i] = new(uint256.Int).SetBytes32(r.ReturnData)
		}
	}
	return amounts, nil
}
