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

// Feeds implements chainlink.Reader. Where several nodes have to agree, a feed about which
// too few do has no answer.
func (r *Reader) Feeds(ctx context.Context, chain uint64, contracts []common.Address) (answers []chainlink.Answer,
	err error) {
	ctx, span := otel.Tracer(tracer).Start(ctx, "chain.Feeds", spanOptions(chain, len(contracts))...)
	defer span.End()
	if quorum := r.quorum(chain); quorum > 1 {
		at, err := r.agreeOnBlock(ctx, chain, 0)
		if err != nil {
			return nil, err
		}
		said, err := askQuorum(ctx, r, chain, at.nodes, readHedgeDelay, isSettled(quorum, feedKey),
			func(ctx context.Context, n *node) ([]chainlink.Answer, error) {
				return n.feedsAt(ctx, at.Block, contracts)
			})
		if err != nil {
			return nil, err
		}
		answers, _ = settle(said, quorum, feedKey)
		return answers, nil
	}
	choice := &headChoice{reader: r, chain: chain}
	return tryNodes(ctx, r, chain, r.inOrder(r.nodes[chain]), readHedgeDelay,
		func(ctx context.Context, n *node) ([]chainlink.Answer, error) {
			b, err := r.newest(ctx, n)
			if err == nil {
				err = choice.check(ctx, n, b)
			}
			if err != nil {
				return nil, err
			}
			return n.feedsAt(ctx, b, contracts)
		})
}

// FeedsAt implements chainlink.Reader. Where several nodes have to agree, a time about which
// too few do has no answers.
func (r *Reader) FeedsAt(ctx context.Context, chain uint64, times []time.Time,
	contracts []common.Address) (answers [][]chainlink.Answer, err error) {
	ctx, span := otel.Tracer(tracer).Start(ctx, "chain.FeedsAt",
		spanOptions(chain, len(contracts), attribute.Int("times", len(times)))...)
	defer span.End()
	read := func(ctx context.Context, n *node) ([][]chainlink.Answer, error) {
		return r.feedsOf(ctx, n, times, contracts)
	}
	if quorum := r.quorum(chain); quorum > 1 {
		said, err := askQuorum(ctx, r, chain, r.inOrder(r.nodes[chain]), pastHedgeDelay, isSettled(quorum, feedsKey),
			read)
		if err != nil {
			return nil, err
		}
		answers, _ = settle(said, quorum, feedsKey)
		return answers, nil
	}
	return tryNodes(ctx, r, chain, r.inOrder(r.nodes[chain]), pastHedgeDelay, read)
}

// feedKey and feedsKey are what nodes have to agree about.
func feedKey(a chainlink.Answer) string {
	return fmt.Sprintf("%x %x %x", a.Round, a.Decimals, a.Description)
}

func feedsKey(answers []chainlink.Answer) string {
	if answers == nil {
		return "none"
	}
	return fmt.Sprintf("%x", answers)
}

// feedsOf reads the answers of one node at the last blocks at or before times, nil where it
// has none.
func (r *Reader) feedsOf(ctx context.Context, n *node, times []time.Time,
	contracts []common.Address) ([][]chainlink.Answer, error) {
	head, err := r.newest(ctx, n)
	if err != nil {
		return nil, err
	}
	search, err := newBlockSearch(ctx, n, head, r.now().Add(-block.FinalAfter))
	if err != nil {
		return nil, err
	}
	answers := make([][]chainlink.Answer, len(times))
	past := slices.DeleteFunc(slices.Clone(times), func(t time.Time) bool { return !head.Time.After(t) })
	var blocks []block.Block
	var places []int
	for i, f := range search.lastAt(ctx, past) { // times are in order, so the first ones
		switch {
		case f.err != nil && !isNoState(f.err):
			return nil, f.err
		case f.err == nil && !f.none:
			blocks, places = append(blocks, f.Block), append(places, i)
		}
	}
	if len(blocks) == 0 {
		return answers, nil
	}
	found, err := n.feeds(ctx, pastCallTimeout, blocks, contracts)
	for j, i := range places {
		if err == nil {
			answers[i] = found[j]
		}
	}
	return answers, err
}

// feedsAt calls the contracts of feeds at one block.
func (n *node) feedsAt(ctx context.Context, b block.Block, contracts []common.Address) ([]chainlink.Answer, error) {
	found, err := n.feeds(ctx, callTimeout, []block.Block{b}, contracts)
	if err != nil {
		return nil, err
	}
	return found[0], nil
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
