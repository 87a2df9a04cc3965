package chain

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/rpc"
	"github.com/holiman/uint256"

	"github.com/purserhq/purser/services/wallet/internal/block"
)

// errNoMulticall is about a call for one balance that failed, where one for many could not be tried.
var errNoMulticall = errors.New("each balance was asked for alone, since the chain has no Multicall3")

// readEach reads balances at a block by a call for each, in JSON-RPC batches: on a chain without Multicall3, such as
// a new one for development.
func (r *Reader) readEach(ctx context.Context, timeout time.Duration, n *node, b block.Block,
	queries []query) ([]result, error) {
	calls, at := make([]rpc.BatchElem, len(queries)), make([]block.Block, len(queries))
	for i, q := range queries {
		at[i] = b
		if q.token.Native && !q.decimals {
			calls[i] = rpc.BatchElem{Method: "eth_getBalance", Args: []any{q.holder}, Result: new(hexutil.U256)}
			continue
		}
		to, data, err := r.codec.queryCall(q)
		if err != nil {
			return nil, fmt.Errorf("pack a query: %w", err)
		}
		calls[i] = rpc.BatchElem{Method: "eth_call", Result: new(hexutil.Bytes), Args: []any{
			map[string]any{"from": common.Address{}, "to": to, "input": hexutil.Bytes(data),
				"gas": hexutil.Uint64(balanceGas)}}}
	}
	n.callAllAt(ctx, timeout, at, calls)
	results := make([]result, len(queries))
	for i, call := range calls {
		if call.Error != nil && isRefused(call.Error) {
			continue // one that could not be read
		}
		if call.Error != nil {
			return nil, fmt.Errorf("balance at block %d: %w: %w", b.Number, errNoMulticall,
				n.stateError(call.Error, b))
		}
		switch reply := call.Result.(type) {
		case *hexutil.U256:
			results[i].amount = (*uint256.Int)(reply)
		case *hexutil.Bytes:
			results[i] = resultOf(*reply)
		}
	}
	return results, nil
}
