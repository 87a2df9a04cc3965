package chain

import (
	"context"
	"fmt"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/rpc"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"

	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/defi"
)

const (
	// singleCallGas bounds a call that is made alone: more than any of a market takes, and less than blocks have.
	singleCallGas = 10_000_000
	// maxCallsAgain is how many calls that failed beside others are made again alone, since one of those may have
	// eaten their gas.
	maxCallsAgain = 100
)

// CallAt implements defi.Caller. Where several nodes have to agree, a call about which too few do has no answer.
func (r *Reader) CallAt(ctx context.Context, chain uint64, at block.Block, calls []defi.Call) (answers []defi.Answer,
	err error) {
	ctx, span := otel.Tracer(tracer).Start(ctx, "chain.CallAt",
		spanOptions(chain, 0, attribute.Int("calls", len(calls)))...)
	defer span.End()
	nodes := r.inOrder(r.nodes[chain])
	read := func(ctx context.Context, n *node) ([]defi.Answer, error) { return r.callsOf(ctx, n, at, calls) }
	quorum := r.quorum(chain)
	if quorum == 1 {
		return tryNodes(ctx, r, chain, nodes, readHedgeDelay, read)
	}
	said, err := askQuorum(ctx, r, chain, nodes, readHedgeDelay, isSettled(quorum, callKey), read)
	if err != nil {
		return nil, err
	}
	answers, open := settle(said, quorum, callKey)
	about := func(i int) string { return fmt.Sprintf("a call of %s at block %d", calls[i].To, at.Number) }
	for _, s := range said {
		for i := range calls {
			if !open[i] && callKey(s.value[i]) != callKey(answers[i]) {
				r.noteDissent(ctx, s.node, about(i))
				break
			}
		}
	}
	if i := slices.Index(open, true); i >= 0 {
		r.log.WarnContext(ctx, "nodes disagree", "chain", chain, "about", about(i))
	}
	return answers, nil
}

// WithoutCode implements defi.Caller. Where several nodes have to agree, a contract has code until they say that it
// has none.
func (r *Reader) WithoutCode(ctx context.Context, chain uint64, at block.Block,
	contracts []common.Address) ([]bool, error) {
	nodes := r.inOrder(r.nodes[chain])
	read := func(ctx context.Context, n *node) (without []bool, err error) {
		without = make([]bool, len(contracts))
		for i, c := range contracts {
			if without[i], err = n.isWithoutCodeYet(ctx, callTimeout, at, c); err != nil {
				return nil, err
			}
		}
		return without, nil
	}
	quorum := r.quorum(chain)
	if quorum == 1 {
		return tryNodes(ctx, r, chain, nodes, readHedgeDelay, read)
	}
	same := func(without bool) bool { return without }
	said, err := askQuorum(ctx, r, chain, nodes, readHedgeDelay, isSettled(quorum, same), read)
	if err != nil {
		return nil, err
	}
	without, open := settle(said, quorum, same)
	for i := range without {
		without[i] = without[i] && !open[i]
	}
	return without, nil
}

// callKey is what nodes have to agree about.
func callKey(a defi.Answer) string { return string(a) }

// callsOf makes calls at a block of a node. One that doesn't have the block is behind.
func (r *Reader) callsOf(ctx context.Context, n *node, at block.Block, calls []defi.Call) ([]defi.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, r.readTimeout(weightOf(calls)))
	defer cancel()
	answers := make([]defi.Answer, 0, len(calls))
	for rest := calls; len(rest) > 0; {
		size := r.chunkOf(rest)
		limited, cancel := context.WithTimeout(ctx, chunkTimeout)
		read, err := r.callChunk(limited, n, at, rest[:size])
		cancel()
		if err != nil {
			if isUnknownBlock(err) {
				err = fmt.Errorf("%w: it has no block %d: %w", errBehind, at.Number, err)
			}
			return nil, err
		}
		answers, rest = append(answers, read...), rest[size:]
	}
	return answers, nil
}

func weightOf(calls []defi.Call) (sum int) {
	for _, c := range calls {
		sum += max(1, c.Weight)
	}
	return sum
}

// chunkOf is how many of the first calls are made in one call: as many as balances would be, by their weight.
func (r *Reader) chunkOf(calls []defi.Call) int {
	weight := 0
	for i, c := range calls {
		if weight += max(1, c.Weight); weight > r.chunkSize && i > 0 {
			return i
		}
	}
	return len(calls)
}

// callChunk makes calls in one of Multicall3, halved while the node refuses it; those that failed in it are made again
// alone.
func (r *Reader) callChunk(ctx context.Context, n *node, b block.Block, calls []defi.Call) ([]defi.Answer, error) {
	if n.knownWithoutCode(r.codec.address, b.Number) {
		return n.callEachAt(ctx, b, calls)
	}
	inner := make([]call3, len(calls))
	for i, c := range calls {
		inner[i] = call3{Target: c.To, AllowFailure: true, CallData: c.Data}
	}
	data, err := r.codec.packCalls(inner)
	if err != nil {
		return nil, err
	}
	outer := []rpc.BatchElem{r.codec.call(data, maxChunkGas)}
	n.callAllAt(ctx, callTimeout, []block.Block{b}, outer)
	reply, err := *outer[0].Result.(*hexutil.Bytes), outer[0].Error
	switch {
	case err == nil && len(reply) == 0:
		if err := r.checkNoMulticall(ctx, callTimeout, n, b); err != nil {
			return nil, err
		}
		return n.callEachAt(ctx, b, calls)
	case err == nil:
		return r.callResults(ctx, n, b, calls, reply)
	case !isRefused(err):
		return nil, fmt.Errorf("aggregate3 at block %d: %w", b.Number, n.stateError(err, b))
	case len(calls) == 1:
		return make([]defi.Answer, 1), nil
	}
	half := len(calls) / 2
	low, err := r.callChunk(ctx, n, b, calls[:half])
	if err != nil {
		return nil, err
	}
	high, err := r.callChunk(ctx, n, b, calls[half:])
	return append(low, high...), err
}

// callResults decodes what Multicall3 answered, and makes calls that failed again.
func (r *Reader) callResults(ctx context.Context, n *node, b block.Block, calls []defi.Call,
	reply []byte) ([]defi.Answer, error) {
	results, err := r.codec.unpackCalls(reply, len(calls))
	if err != nil {
		return nil, err
	}
	answers := make([]defi.Answer, len(calls))
	var again []defi.Call
	var places []int
	for i, res := range results {
		switch {
		case res.Success:
			answers[i] = res.ReturnData
		case len(calls) > 1 && len(again) < maxCallsAgain:
			again, places = append(again, calls[i]), append(places, i)
		}
	}
	if len(again) == 0 {
		return answers, nil
	}
	alone, err := n.callEachAt(ctx, b, again)
	for j, i := range places {
		if err == nil {
			answers[i] = alone[j]
		}
	}
	return answers, err
}

// callEachAt makes calls at a block in JSON-RPC batches. One that the node refuses has no answer.
func (n *node) callEachAt(ctx context.Context, b block.Block, calls []defi.Call) ([]defi.Answer, error) {
	elems, at := make([]rpc.BatchElem, len(calls)), make([]block.Block, len(calls))
	for i, c := range calls {
		at[i] = b
		elems[i] = rpc.BatchElem{Method: "eth_call", Result: new(hexutil.Bytes), Args: []any{map[string]any{
			"from": common.Address{}, "to": c.To, "input": hexutil.Bytes(c.Data),
			"gas": hexutil.Uint64(singleCallGas)}}}
	}
	n.callAllAt(ctx, callTimeout, at, elems)
	answers := make([]defi.Answer, len(calls))
	for i, e := range elems {
		switch {
		case e.Error == nil:
			answers[i] = defi.Answer(*e.Result.(*hexutil.Bytes))
		case !isRefused(e.Error):
			return nil, fmt.Errorf("call at block %d: %w", b.Number, n.stateError(e.Error, b))
		}
	}
	return answers, nil
}
