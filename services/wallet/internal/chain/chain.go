// Package chain reads balances from EVM chains over JSON-RPC, many at once
// through Multicall3.
//
// It promises: one block for a whole reading, named by its hash, so that a
// reorg in the middle is an error and not a mixture; nodes are tried in order
// and one that failed rests; a node of another chain than configured, or
// whose newest block lies in the future, is not used; a chunk that a node
// refuses is halved down to one call.
package chain

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/rpc"
	"github.com/holiman/uint256"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/wallet/internal/sync"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

// Bounds of talking to nodes.
const (
	callTimeout = 5 * time.Second
	rest        = 15 * time.Second
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

// Reader implements sync.Chains. It is safe for concurrent use.
type Reader struct {
	nodes map[uint64][]*node
	codec *codec
	chunk int
	log   *slog.Logger
	now   func() time.Time
}

// NewReader prepares the nodes; none is called yet.
func NewReader(o Options) (*Reader, error) {
	c, err := newCodec()
	if err != nil {
		return nil, err
	}
	r := &Reader{nodes: map[uint64][]*node{}, codec: c, chunk: max(1, o.Chunk), log: o.Log, now: o.Now}
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
func (r *Reader) Read(ctx context.Context, chain uint64, holder common.Address, tokens []token.Token) (sync.Reading, error) {
	ctx, span := otel.Tracer("purser/wallet/chain").Start(ctx, "chain.Read", trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(attribute.Int64("chain.id", int64(min(chain, math.MaxInt64))), attribute.Int("tokens", len(tokens))))
	defer span.End()
	nodes := r.nodes[chain]
	if len(nodes) == 0 {
		return sync.Reading{}, errs.FailedPrecondition("CHAIN_NOT_CONFIGURED", fmt.Sprintf("no node is configured for chain eip155:%d", chain))
	}
	var failures []error
	for _, n := range r.inOrder(nodes) {
		reading, err := r.readFrom(ctx, n, holder, tokens)
		if err == nil {
			return reading, nil
		}
		if ctx.Err() != nil {
			return sync.Reading{}, ctx.Err()
		}
		err = told(err)
		n.restUntil(r.now().Add(rest))
		r.log.WarnContext(ctx, "node failed", "chain", chain, "node", n.name, "error", err)
		failures = append(failures, err)
	}
	return sync.Reading{}, errs.Unavailable("CHAIN_UNAVAILABLE", fmt.Sprintf("no node of chain eip155:%d answers", chain)).
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

func (r *Reader) readFrom(ctx context.Context, n *node, holder common.Address, tokens []token.Token) (sync.Reading, error) {
	if err := n.check(ctx); err != nil {
		return sync.Reading{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, 3*callTimeout)
	defer cancel()
	block, err := n.newest(ctx)
	if err != nil {
		return sync.Reading{}, fmt.Errorf("newest block: %w", err)
	}
	if block.Time.After(r.now().Add(ahead)) {
		return sync.Reading{}, fmt.Errorf("newest block %d is of %s, in the future", block.Number, block.Time)
	}
	amounts := make([]*uint256.Int, 0, len(tokens))
	for chunk := range slices.Chunk(tokens, r.chunk) {
		some, err := r.ask(ctx, n, block, holder, chunk)
		if err != nil {
			return sync.Reading{}, err
		}
		amounts = append(amounts, some...)
	}
	if len(amounts) > 0 && !slices.ContainsFunc(amounts, func(a *uint256.Int) bool { return a != nil }) {
		return sync.Reading{}, fmt.Errorf("no balance could be read at block %d", block.Number)
	}
	return sync.Reading{Block: block, Amounts: amounts}, nil
}

// ask reads the balances of a chunk, halving it while the node refuses. A
// single call that is refused is one balance unread.
func (r *Reader) ask(ctx context.Context, n *node, b sync.Block, holder common.Address, tokens []token.Token) ([]*uint256.Int, error) {
	data, err := r.codec.pack(holder, tokens)
	if err != nil {
		return nil, err
	}
	reply, err := n.client.CallContractAtHash(ctx, ethereum.CallMsg{To: &r.codec.address, Data: data}, b.Hash)
	if err == nil {
		return r.codec.unpack(reply, len(tokens))
	}
	if !refused(err) {
		return nil, fmt.Errorf("aggregate3 at block %d: %w", b.Number, err)
	}
	if len(tokens) == 1 {
		return []*uint256.Int{nil}, nil
	}
	half := len(tokens) / 2
	first, err := r.ask(ctx, n, b, holder, tokens[:half])
	if err != nil {
		return nil, err
	}
	second, err := r.ask(ctx, n, b, holder, tokens[half:])
	return append(first, second...), err
}

// tooOften are the JSON-RPC codes of nodes that are asked too often: EIP-1474's
// own and those that large providers use instead.
func tooOften() []int { return []int{-32005, 429, -32007, -32016, -32029, -32097} }

// refused reports whether the node answered and would not do it (too much
// gas, too large), rather than failed to answer or was asked too often.
func refused(err error) bool {
	var answer rpc.Error
	var status rpc.HTTPError
	return errors.As(err, &answer) && !slices.Contains(tooOften(), answer.ErrorCode()) || errors.As(err, &status) && status.StatusCode == http.StatusRequestEntityTooLarge
}
