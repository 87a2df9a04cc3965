package chain

import (
	"encoding/json"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/holiman/uint256"

	"github.com/purserhq/purser/services/wallet/internal/balancesync"
	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/token"
	"github.com/purserhq/purser/services/wallet/internal/transaction"
)

// TransfersIn is transfersIn of a node's answer.
func TransfersIn(answer []byte, holders []common.Address, blocks transaction.Range) ([]transaction.Found, error) {
	var events []event
	if err := json.Unmarshal(answer, &events); err != nil {
		return nil, err
	}
	return transfersIn(events, holders, blocks)
}

// MetadataIn is metadataIn.
var MetadataIn = metadataIn

// SetTimeouts sets what readTimeout is computed from.
func (r *Reader) SetTimeouts(base, perCall time.Duration) {
	r.baseTimeout, r.timeoutPerCall = base, perCall
}

// Codec is codec.
type Codec struct{ *codec }

// NewCodec is newCodec.
func NewCodec() (Codec, error) {
	c, err := newCodec()
	return Codec{c}, err
}

// Pack is pack.
func (c Codec) Pack(holder common.Address, tokens []token.Token) ([]byte, error) {
	return c.pack(queriesOf(requestsFor([]common.Address{holder}, tokens)))
}

// PackAll is pack for several holders.
func (c Codec) PackAll(requests []balancesync.Request) ([]byte, error) {
	return c.pack(queriesOf(requests))
}

// Unpack is unpack.
func (c Codec) Unpack(reply []byte, n int) ([]*uint256.Int, error) {
	results, err := c.unpack(reply, n)
	if err != nil {
		return nil, err
	}
	return amountsOf(results, requestsFor(make([]common.Address, 1), make([]token.Token, n)))[0], nil
}

// Result is one result of Multicall3.
type Result = result3

// Answer encodes what Multicall3 returns.
func (c Codec) Answer(results []Result) ([]byte, error) {
	return c.abi.Methods["aggregate3"].Outputs.Pack(results)
}

// Targets decodes what Multicall3 was asked: the contract of each call.
func (c Codec) Targets(data []byte) ([]common.Address, error) {
	args, err := c.abi.Methods["aggregate3"].Inputs.Unpack(data[4:])
	if err != nil {
		return nil, err
	}
	var calls []call3
	if err := c.abi.Methods["aggregate3"].Inputs.Copy(&calls, args); err != nil {
		return nil, err
	}
	targets := make([]common.Address, len(calls))
	for i, c := range calls {
		targets[i] = c.Target
	}
	return targets, nil
}

// Calls decodes what Multicall3 was asked: the data of each call.
func (c Codec) Calls(data []byte) ([][]byte, error) {
	args, err := c.abi.Methods["aggregate3"].Inputs.Unpack(data[4:])
	if err != nil {
		return nil, err
	}
	var calls []call3
	if err := c.abi.Methods["aggregate3"].Inputs.Copy(&calls, args); err != nil {
		return nil, err
	}
	out := make([][]byte, len(calls))
	for i, call := range calls {
		out[i] = call.CallData
	}
	return out, nil
}

// PackCalls encodes calls as one of Multicall3.
func (c Codec) PackCalls(to []common.Address, data [][]byte) ([]byte, error) {
	calls := make([]call3, len(to))
	for i := range to {
		calls[i] = call3{Target: to[i], AllowFailure: true, CallData: data[i]}
	}
	return c.packCalls(calls)
}

// Results decodes what Multicall3 returned of n calls.
func (c Codec) Results(reply []byte, n int) ([]Result, error) { return c.unpackCalls(reply, n) }

// KindOf is kindOf as text.
func KindOf(err error) string {
	return map[kind]string{otherError: "other", refusedCall: "refused", revertedCall: "reverted", noState: "no state",
		unknownBlock: "unknown block", noBlockHashes: "no block hashes", limited: "limited",
		unsupported: "unsupported"}[kindOf(err)]
}

// BlockIn is the block of a node's answer with a header.
func BlockIn(answer []byte) (block.Block, error) {
	var h *header
	if err := json.Unmarshal(answer, &h); err != nil {
		return block.Block{}, err
	}
	return h.block()
}
