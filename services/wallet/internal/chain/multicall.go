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

// question is whose balance of which token is asked for.
type question struct {
	holder common.Address
	token  token.Token
}

// questions asks for every token of every holder, holder by holder.
func questions(holders []common.Address, tokens []token.Token) []question {
	out := make([]question, 0, len(holders)*len(tokens))
	for _, h := range holders {
		for _, t := range tokens {
			out = append(out, question{h, t})
		}
	}
	return out
}

// answer is a balance, or why there is none.
type answer struct {
	amount *uint256.Int // nil for none
	// empty: the call succeeded and returned nothing, as one of an address
	// without code does.
	empty bool
}

// pack asks all questions in one call.
func (c *codec) pack(asked []question) ([]byte, error) {
	calls := make([]call3, len(asked))
	for i, q := range asked {
		target, method := q.token.Contract, "balanceOf"
		if q.token.Native {
			target, method = c.address, "getEthBalance"
		}
		data, err := c.abi.Pack(method, q.holder)
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

// unpack reads n balances. One that failed or isn't a single word is none: a
// token that answers anything else has no balance to speak of, least of all
// zero.
func (c *codec) unpack(reply []byte, n int) ([]answer, error) {
	var results []result3
	if err := c.abi.UnpackIntoInterface(&results, "aggregate3", reply); err != nil {
		return nil, fmt.Errorf("unpack aggregate3: %w", err)
	}
	if len(results) != n {
		return nil, fmt.Errorf("aggregate3 answered %d of %d calls", len(results), n)
	}
	answers := make([]answer, n)
	for i, r := range results {
		switch {
		case r.Success && len(r.ReturnData) == 32:
			answers[i].amount = new(uint256.Int).SetBytes32(r.ReturnData)
		case r.Success && len(r.ReturnData) == 0:
			answers[i].empty = true
		}
	}
	return answers, nil
}
