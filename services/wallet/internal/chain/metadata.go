package chain

import (
	"bytes"
	"context"
	"fmt"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/rpc"
	"github.com/holiman/uint256"
	"go.opentelemetry.io/otel"

	"github.com/purserhq/purser/services/wallet/internal/token"
	"github.com/purserhq/purser/services/wallet/internal/transaction"
)

// The calls of EIP-20's optional methods.
var (
	callSymbol   = hexutil.Bytes{0x95, 0xd8, 0x9b, 0x41}
	callName     = hexutil.Bytes{0x06, 0xfd, 0xde, 0x03}
	callDecimals = hexutil.Bytes{0x31, 0x3c, 0xe5, 0x67}
)

// metadataGas bounds a call for what a contract says of itself: a hostile one could take all that the node gives.
const metadataGas = 500_000

// Metadata implements transaction.ChainReader. A contract that reverts, or answers with nonsense, has said nothing; so
// has one about which as many nodes as have to agree don't: it may answer each call otherwise, to stop the search.
func (r *Reader) Metadata(ctx context.Context, chain uint64,
	contracts []common.Address) ([]transaction.Metadata, error) {
	ctx, span := otel.Tracer(tracer).Start(ctx, "chain.Metadata", spanOptions(chain, len(contracts))...)
	defer span.End()
	same := func(m transaction.Metadata) transaction.Metadata { return m }
	answers, err := askQuorum(ctx, r, chain, r.inOrder(r.nodes[chain]), scanHedgeDelay,
		isSettled(r.quorum(chain), same), func(ctx context.Context, n *node) ([]transaction.Metadata, error) {
			return r.metadataOf(ctx, n, contracts)
		})
	if err != nil {
		return nil, err
	}
	out, open := settle(answers, r.quorum(chain), same)
	for i, isOpen := range open {
		if isOpen {
			out[i] = transaction.Metadata{Symbol: token.ShortAddress(contracts[i])}
		}
	}
	return out, nil
}

func (r *Reader) metadataOf(ctx context.Context, n *node, contracts []common.Address) ([]transaction.Metadata, error) {
	methods := []hexutil.Bytes{callSymbol, callName, callDecimals}
	var calls []rpc.BatchElem
	for _, c := range contracts {
		for _, m := range methods {
			calls = append(calls, rpc.BatchElem{Method: "eth_call", Result: new(hexutil.Bytes), Args: []any{
				map[string]any{"to": c, "input": m, "gas": hexutil.Uint64(metadataGas)}, "latest"}})
		}
	}
	n.callAll(ctx, callTimeout, calls)
	answers := make([][]byte, len(calls))
	for i, c := range calls {
		switch {
		case c.Error == nil:
			answers[i] = *c.Result.(*hexutil.Bytes)
		case !isRefused(c.Error):
			return nil, fmt.Errorf("what contracts say of themselves: %w", c.Error)
		}
	}
	out := make([]transaction.Metadata, len(contracts))
	for i, c := range contracts {
		out[i] = metadataIn(c, answers[3*i], answers[3*i+1], answers[3*i+2])
	}
	return out, nil
}

// metadataIn reads what a contract answers to the three calls; empty for one that it refuses.
func metadataIn(contract common.Address, symbol, name, decimals []byte) transaction.Metadata {
	m := transaction.Metadata{Symbol: token.CleanText(textOf(symbol)), Name: token.CleanText(textOf(name))}
	if len(decimals) == 32 {
		if v := new(uint256.Int).SetBytes32(decimals); v.IsUint64() && v.Uint64() <= 255 {
			m.Decimals, m.Known = uint8(v.Uint64()), true
		}
	}
	m.Spam = token.LooksLikeSpam(m.Symbol) || token.LooksLikeSpam(m.Name)
	if m.Symbol == "" {
		m.Symbol = token.ShortAddress(contract)
	}
	return m
}

// textOf decodes a string, or the bytes32 that contracts older than EIP-20 answer with; "" for anything else.
func textOf(answer []byte) string {
	if len(answer) == 32 {
		return string(bytes.TrimRight(answer, "\x00"))
	}
	if len(answer) < 64 {
		return ""
	}
	offset, length := new(uint256.Int).SetBytes32(answer[:32]), new(uint256.Int).SetBytes32(answer[32:64])
	if !offset.Eq(uint256.NewInt(32)) || !length.IsUint64() || length.Uint64() > uint64(len(answer)-64) {
		return ""
	}
	return string(answer[64 : 64+length.Uint64()])
}
