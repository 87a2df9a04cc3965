// Package chain reads balances from EVM chains over JSON-RPC, many at once
// through Multicall3.
//
// It promises: one block for a whole reading, named by its hash, so that a
// reorg in the middle is an error and not a mixture; nodes are tried in order
// and one that failed rests; a node of another chain than configured, whose
// newest block lies in the future or whose blocks' times fall, is not used; a
// chunk that a node refuses is halved down to one call; what can't be read of
// the past is never taken for zero.
package chain

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/holiman/uint256"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/redact"
	"github.com/purserhq/purser/services/wallet/internal/sync"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

// Bounds of talking to nodes.
const (
	callTimeout = 5 * time.Second
	// slowCall is how long each call of a reading may take on average.
	slowCall = 2 * time.Second
	rest     = 15 * time.Second
	// ahead is how far a block's time may lie in the future: clocks differ.
	ahead    = 2 * time.Minute
	maxReply = 16 << 20
)

// Options of a Reader.
type Options struct {
	// Nodes are the JSON-RPC URLs of each chain, in the order to try.
	Nodes map[uint64][]string
	// Chunk is how many balances are asked for in one call.
	Chunk int
	Log   *slog.Logger
	Now   func() time.Time
}

// Reader implements sync.Chains, sync.Heads and history.Chains. It is safe for concurrent use.
type Reader struct {
	nodes map[uint64][]*node
	codec *codec
	chunk int
	base  time.Duration // of a reading's limit
	each  time.Duration // call's share of it
	log   *slog.Logger
	now   func() time.Time
}

// NewReader prepares the nodes; none is called yet.
func NewReader(o Options) (*Reader, error) {
	c, err := newCodec()
	if err != nil {
		return nil, err
	}
	r := &Reader{nodes: map[uint64][]*node{}, codec: c, chunk: max(1, o.Chunk), base: 3 * callTimeout, each: slowCall,
		log: o.Log, now: o.Now}
	for chain, urls := range o.Nodes {
		for _, u := range urls {
			n, err := newNode(chain, u)
			if err != nil {
				return nil, errors.Join(fmt.Errorf("node of chain %d: %w", chain, err), r.Close())
			}
			r.nodes[chain] = append(r.nodes[chain], n)
		}
	}
	return r, nil
}

// Close closes the connections.
func (r *Reader) Close() error {
	for _, nodes := range r.nodes {
		for _, n := range nodes {
			n.client.Close()
		}
	}
	return nil
}

// Chains lists the chains that have a node, in order.
func (r *Reader) Chains() []uint64 { return slices.Sorted(maps.Keys(r.nodes)) }

// Read implements sync.Chains.
func (r *Reader) Read(ctx context.Context, chain uint64, holder common.Address, tokens []token.Token) (sync.Reading,
	error) {
	ctx, span := otel.Tracer("purser/wallet/chain").Start(ctx, "chain.Read", trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(attribute.Int64("chain.id", int64(min(chain, math.MaxInt64))),
			attribute.Int("tokens", len(tokens))))
	defer span.End()
	block, amounts, err := r.readAll(ctx, chain, []common.Address{holder}, tokens)
	if err != nil {
		return sync.Reading{}, err
	}
	return sync.Reading{Block: block, Amounts: amounts[0]}, nil
}

// ReadAll implements sync.Heads.
func (r *Reader) ReadAll(ctx context.Context, chain uint64, holders []common.Address,
	tokens []token.Token) (sync.Block, [][]*uint256.Int, error) {
	ctx, span := otel.Tracer("purser/wallet/chain").Start(ctx, "chain.ReadAll",
		trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(attribute.Int64("chain.id", int64(min(chain, math.MaxInt64))),
			attribute.Int("holders", len(holders)), attribute.Int("tokens", len(tokens))))
	defer span.End()
	return r.readAll(ctx, chain, holders, tokens)
}

func (r *Reader) readAll(ctx context.Context, chain uint64, holders []common.Address,
	tokens []token.Token) (block sync.Block, amounts [][]*uint256.Int, err error) {
	err = r.first(ctx, chain, func(ctx context.Context, n *node) (err error) {
		block, amounts, err = r.readFrom(ctx, n, holders, tokens)
		return err
	})
	return block, amounts, err
}

// first has the chain's nodes do fn, in order until one has done it. One that
// fails rests.
func (r *Reader) first(ctx context.Context, chain uint64, fn func(context.Context, *node) error) error {
	nodes := r.nodes[chain]
	if len(nodes) == 0 {
		return errs.FailedPrecondition("CHAIN_NOT_CONFIGURED",
			fmt.Sprintf("no node is configured for chain eip155:%d", chain))
	}
	var failures []error
	for _, n := range r.inOrder(nodes) {
		err := n.check(ctx)
		if err == nil {
			err = fn(ctx, n)
		}
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, errNoState) { // which is no reason to rest: it has newer blocks
			failures = append(failures, err)
			continue
		}
		err = redact.Error(err, n.url)
		n.restUntil(r.now().Add(rest))
		r.log.WarnContext(ctx, "node failed", "chain", chain, "node", n.name, "error", err)
		failures = append(failures, err)
	}
	return errs.Unavailable("CHAIN_UNAVAILABLE", fmt.Sprintf("no node of chain eip155:%d answers", chain)).
		Because(errors.Join(failures...)).After(rest)
}

// inOrder puts the nodes that rest behind the others.
func (r *Reader) inOrder(nodes []*node) []*node {
	now := r.now()
	var fit, resting []*node
	for _, n := range nodes {
		if n.rests(now) {
			resting = append(resting, n)
		} else {
			fit = append(fit, n)
		}
	}
	return append(fit, resting...)
}

// readFrom reads the balances of all holders at a node's newest block.
func (r *Reader) readFrom(ctx context.Context, n *node, holders []common.Address, tokens []token.Token) (sync.Block,
	[][]*uint256.Int, error) {
	ctx, cancel := context.WithTimeout(ctx, r.limit(len(holders)*len(tokens)))
	defer cancel()
	block, err := r.newest(ctx, n)
	if err != nil {
		return block, nil, err
	}
	answers, err := r.askAll(ctx, n, block, questions(holders, tokens))
	if err == nil {
		err = readable(answers, block)
	}
	return block, perHolder(answers, len(holders), len(tokens)), err
}

// limit is how long a node may take for so many balances: it grows with the
// calls that they take, or a node that is fit for one wallet would fail with
// many.
func (r *Reader) limit(balances int) time.Duration {
	return r.base + r.each*time.Duration(balances/r.chunk)
}

// newest is the newest block of a node, unless it lies in the future.
func (r *Reader) newest(ctx context.Context, n *node) (sync.Block, error) {
	block, err := n.newest(ctx)
	if err != nil {
		return block, fmt.Errorf("newest block: %w", err)
	}
	if block.Time.After(r.now().Add(ahead)) {
		return block, fmt.Errorf("newest block %d is of %s, in the future", block.Number, block.Time)
	}
	return block, nil
}
