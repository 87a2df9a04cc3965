package chain

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/rpc"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"

	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/chainlink"
)

// The calls of Chainlink's AggregatorV3Interface.
var (
	callLatestRoundData = hexutil.Bytes{0xfe, 0xaf, 0x96, 0x8c}
	callDescription     = hexutil.Bytes{0x72, 0x84, 0xe4, 0x16}
)

// feedGas bounds a call to a feed: a proxy and its aggregator take less than a tenth of it.
const feedGas = 500_000

// Feeds implements chainlink.Reader.
func (r *Reader) Feeds(ctx context.Context, chain uint64, contracts []common.Address) (answers []chainlink.Answer,
	err error) {
	ctx, span := otel.Tracer(tracer).Start(ctx, "chain.Feeds", spanOptions(chain, len(contracts))...)
	defer span.End()
	choice := &headChoice{reader: r, chain: chain}
	err = r.tryNodes(ctx, chain, r.inOrder(r.nodes[chain]), func(ctx context.Context, n *node) error {
		b, err := r.newest(ctx, n)
		if err == nil {
			err = choice.check(ctx, n, b)
		}
		if err != nil {
			return err
		}
		at, err := n.feeds(ctx, callTimeout, []block.Block{b}, contracts)
		if err == nil {
			answers = at[0]
		}
		return err
	})
	return answers, err
}

// FeedsAt implements chainlink.Reader.
func (r *Reader) FeedsAt(ctx context.Context, chain uint64, times []time.Time,
	contracts []common.Address) (answers [][]chainlink.Answer, err error) {
	ctx, span := otel.Tracer(tracer).Start(ctx, "chain.FeedsAt",
		spanOptions(chain, len(contracts), attribute.Int("times", len(times)))...)
	defer span.End()
	err = r.tryNodes(ctx, chain, r.inOrder(r.nodes[chain]), func(ctx context.Context, n *node) error {
		head, err := r.newest(ctx, n)
		if err != nil {
			return err
		}
		search, err := newBlockSearch(ctx, n, head, r.now().Add(-block.FinalAfter))
		if err != nil {
			return err
		}
		answers = make([][]chainlink.Answer, len(times))
		past := slices.DeleteFunc(slices.Clone(times), func(t time.Time) bool { return !head.Time.After(t) })
		var blocks []block.Block
		var places []int
		for i, f := range search.lastAt(ctx, past) { // times are in order, so the first ones
			switch {
			case f.err != nil && !isNoState(f.err):
				return f.err
			case f.err == nil && !f.none:
				blocks, places = append(blocks, f.Block), append(places, i)
			}
		}
		if len(blocks) == 0 {
			return nil
		}
		found, err := n.feeds(ctx, pastCallTimeout, blocks, contracts)
		for j, i := range places {
			if err == nil {
				answers[i] = found[j]
			}
		}
		return err
	})
	return answers, err
}

// feeds calls the contracts of feeds at blocks. A block of which the node doesn't have the
// state has no answers.
func (n *node) feeds(ctx context.Context, timeout time.Duration, blocks []block.Block,
	contracts []common.Address) ([][]chainlink.Answer, error) {
	methods := []hexutil.Bytes{callLatestRoundData, callDecimals, callDescription}
	var calls []rpc.BatchElem
	var at []block.Block
	for _, b := range blocks {
		for _, c := range contracts {
			for _, m := range methods {
				calls = append(calls, rpc.BatchElem{Method: "eth_call", Result: new(hexutil.Bytes),
					Args: []any{map[string]any{"to": c, "input": m, "gas": hexutil.Uint64(feedGas)}}})
				at = append(at, b)
			}
		}
	}
	n.callAllAt(ctx, timeout, at, calls)
	out := make([][]chainlink.Answer, len(blocks))
	for i := range blocks {
		answers := make([]chainlink.Answer, len(contracts))
		lost := false
		for j := range contracts {
			var said [3][]byte
			for k := range methods {
				call := calls[(i*len(contracts)+j)*len(methods)+k]
				switch {
				case call.Error == nil:
					said[k] = *call.Result.(*hexutil.Bytes)
				case isNoState(call.Error):
					lost = true
				case !isRefused(call.Error):
					return nil, fmt.Errorf("price feeds: %w", n.stateError(call.Error, blocks[i]))
				}
			}
			answers[j] = chainlink.Answer{Round: said[0], Decimals: said[1], Description: said[2]}
		}
		if !lost {
			out[i] = answers
		}
	}
	return out, nil
}
