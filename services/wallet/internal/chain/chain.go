// Package chain reads balances from EVM chains over JSON-RPC, many in one call
// through the Multicall3 contract.
//
// It promises: all balances of a reading are of one block, which is named by its
// hash, so that a reorg during the reading is an error; the nodes of a chain are
// tried in order, and those that failed within the node cooldown after the
// others; a node is not used if it is of another chain than configured, if its
// newest block is in the future, or if the times of its blocks decrease; one whose
// newest block is older than another's, or than what was read before, is used only
// when no other can be; a chunk
// of balances that a node refuses is halved until it works or is a single call;
// a balance that could not be read is never taken for zero.
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
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/purserhq/purser/services/wallet/internal/balancesync"
	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/chainlist"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

const (
	// callTimeout bounds one HTTP request to a node.
	callTimeout = 5 * time.Second
	// chunkTimeout bounds the calls for one chunk, of which there are several
	// when it is halved.
	chunkTimeout = 3 * callTimeout
	// baseTimeout bounds a reading of current balances from one node, with
	// timeoutPerCall more for each chunk.
	baseTimeout    = 3 * callTimeout
	timeoutPerCall = 2 * time.Second
	// nodeCooldown is how long a node that failed is tried after all others.
	nodeCooldown = 15 * time.Second
	// maxClockSkew is how far a block's time may be in the future.
	maxClockSkew = 2 * time.Minute
	// maxReplyBytes bounds what is read of a node's reply.
	maxReplyBytes = 16 << 20
)

// Options of a Reader.
type Options struct {
	// Nodes are the JSON-RPC URLs of each chain, in the order to try.
	Nodes map[uint64][]string
	// Quorum is how many nodes of a chain have to say the same; 1 for a chain that is not named.
	Quorum map[uint64]int
	// ChunkSize is how many balances are read in one call, at least 1.
	ChunkSize int
	Log       *slog.Logger
	Now       func() time.Time
}

// Reader is the adapter of chains: see chainReader in package app for the interfaces that it
// implements. It is safe for concurrent use.
type Reader struct {
	nodes          map[uint64][]*node
	quorums        map[uint64]int
	codec          *codec
	chunkSize      int
	baseTimeout    time.Duration
	timeoutPerCall time.Duration
	log            *slog.Logger
	now            func() time.Time
	checker        *checker
}

// NewReader returns a reader. No node is called yet; it is an error if a URL is
// not http or https.
func NewReader(o Options) (*Reader, error) {
	c, err := newCodec()
	if err != nil {
		return nil, err
	}
	r := &Reader{nodes: map[uint64][]*node{}, quorums: o.Quorum, codec: c, chunkSize: max(1, o.ChunkSize),
		baseTimeout: baseTimeout, timeoutPerCall: timeoutPerCall, log: o.Log, now: o.Now, checker: newChecker()}
	for chain, urls := range o.Nodes {
		for i, u := range urls {
			n, err := newNode(chain, i+1, u, o.Now)
			if err != nil {
				return nil, errors.Join(fmt.Errorf("node of chain %d: %w", chain, err), r.Close())
			}
			r.nodes[chain] = append(r.nodes[chain], n)
		}
	}
	return r, nil
}

// Close ends a check of the nodes and closes the connections.
func (r *Reader) Close() error {
	r.checker.close()
	for _, nodes := range r.nodes {
		for _, n := range nodes {
			n.connection.close()
		}
	}
	return nil
}

// Chains lists the chains that have a node, in order.
func (r *Reader) Chains() []uint64 { return slices.Sorted(maps.Keys(r.nodes)) }

// spanOptions are those of a reading's trace span.
func spanOptions(chain uint64, tokens int, more ...attribute.KeyValue) []trace.SpanStartOption {
	attributes := append([]attribute.KeyValue{attribute.Int64("chain.id", int64(min(chain, math.MaxInt64))),
		attribute.Int("tokens", tokens)}, more...)
	return []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attributes...)}
}

const tracer = "purser/wallet/chain"

// Read implements balancesync.BalanceReader.
func (r *Reader) Read(ctx context.Context, chain, atLeast uint64, holder common.Address,
	tokens []token.Token) (balancesync.Reading, error) {
	ctx, span := otel.Tracer(tracer).Start(ctx, "chain.Read", spanOptions(chain, len(tokens))...)
	defer span.End()
	readings, err := r.readNewest(ctx, chain, atLeast, []balancesync.Request{{Holder: holder, Tokens: tokens}})
	if err != nil {
		return balancesync.Reading{}, err
	}
	return readings[0], nil
}

// ReadBatch implements balancesync.BatchReader.
func (r *Reader) ReadBatch(ctx context.Context, chain, atLeast uint64,
	requests []balancesync.Request) ([]balancesync.Reading, error) {
	ctx, span := otel.Tracer(tracer).Start(ctx, "chain.ReadBatch",
		spanOptions(chain, tokenCount(requests), attribute.Int("holders", len(requests)))...)
	defer span.End()
	return r.readNewest(ctx, chain, atLeast, requests)
}

// readNewest reads the balances of all holders at the chain's newest block. When
// only nodes that lag can be read, it is the newest of theirs.
func (r *Reader) readNewest(ctx context.Context, chain, atLeast uint64,
	requests []balancesync.Request) ([]balancesync.Reading, error) {
	if r.quorum(chain) > 1 {
		return r.readAgreed(ctx, chain, atLeast, requests)
	}
	choice := &headChoice{reader: r, chain: chain, atLeast: atLeast}
	readWith := func(check headCheck) func(context.Context, *node) ([]balancesync.Reading, error) {
		return func(ctx context.Context, n *node) ([]balancesync.Reading, error) {
			return r.readFrom(ctx, n, check, requests)
		}
	}
	readings, err := tryNodes(ctx, r, chain, r.inOrder(r.nodes[chain]), readHedgeDelay, readWith(choice.check))
	if err == nil || ctx.Err() != nil {
		return readings, err
	}
	if laggards := choice.laggards(); len(laggards) > 0 {
		believe := func(context.Context, *node, block.Block) error { return nil }
		if old, failed := tryNodes(ctx, r, chain, laggards, readHedgeDelay, readWith(believe)); failed == nil {
			return old, nil
		}
	}
	return nil, err
}

// readAgreed reads the balances of all holders at a block on which as many nodes agree as have to. What they don't
// agree on is disputed.
func (r *Reader) readAgreed(ctx context.Context, chain, atLeast uint64,
	requests []balancesync.Request) ([]balancesync.Reading, error) {
	at, err := r.agreeOnBlock(ctx, chain, atLeast)
	if err != nil {
		return nil, err
	}
	queries := queriesOf(requests)
	answers, err := askQuorum(ctx, r, chain, at.nodes, readHedgeDelay, isSettled(r.quorum(chain), result.key),
		func(ctx context.Context, n *node) ([]result, error) {
			ctx, cancel := context.WithTimeout(ctx, r.readTimeout(len(queries)))
			defer cancel()
			return r.readChunks(ctx, n, at.Block, queries)
		})
	if err != nil {
		return nil, err
	}
	results, open := settle(answers, r.quorum(chain), result.key)
	r.noteDissents(ctx, at.Block, queries, answers, results, open)
	readings := readingsOf(at.Block, results, open, requests)
	if slices.ContainsFunc(results, func(r result) bool { return r.amount != nil }) || len(results) == 0 {
		return readings, nil
	}
	if !slices.Contains(open, true) {
		return nil, nothingRead(chain, at.Block)
	}
	return nil, r.disagreement(ctx, chain, fmt.Sprintf("balances at block %d", at.Number), says(answers))
}

// says returns, for each node, the text about a differing answer.
func says[T any](answers []answer[T]) []answer[string] {
	out := make([]answer[string], len(answers))
	for i, a := range answers {
		out[i] = answer[string]{a.node, "answers otherwise than another"}
	}
	return out
}

// noteDissents logs which nodes contradict the others, and what is disputed.
func (r *Reader) noteDissents(ctx context.Context, b block.Block, queries []query, answers []answer[[]result],
	settled []result, open []bool) {
	for _, a := range answers {
		for i := range queries {
			if !open[i] && a.value[i].key() != settled[i].key() {
				r.noteDissent(ctx, a.node, fmt.Sprintf("%s of %s at block %d", queries[i].token.ID,
					queries[i].holder, b.Number))
				break
			}
		}
	}
	if i := slices.Index(open, true); i >= 0 {
		r.log.WarnContext(ctx, "nodes disagree", "chain", queries[i].token.Chain, "about",
			fmt.Sprintf("%s of %s at block %d", queries[i].token.ID, queries[i].holder, b.Number))
	}
}

// headCheck returns an error for a node whose newest block is not to be read from.
type headCheck func(ctx context.Context, n *node, head block.Block) error

// noteFailure logs the failure of a node, and has it tried after the others for a
// time, which it returns. A node that only lacks the state of an old block, or that is
// behind the others, is not put back.
func (r *Reader) noteFailure(ctx context.Context, f failure, err error) time.Duration {
	now := r.now()
	var notBefore *retryAfterError
	switch {
	case errors.Is(err, errNoState):
		return 0
	case errors.As(err, &notBefore):
		return notBefore.until.Sub(now)
	case errors.Is(err, errBehind):
		f.noteFailure(now, f.reason)
		r.log.WarnContext(ctx, "node passed over", "chain", f.chain, "node", f.name, "error", f.err)
		return 0
	}
	f.noteFailure(now, f.reason)
	until := now.Add(nodeCooldown)
	if f.reason == chainlist.RateLimited || f.reason == chainlist.Unreachable {
		if asked := f.obeyRetryAfter(err, now); asked.After(until) {
			until = asked
		}
	}
	f.startCooldown(until)
	r.log.WarnContext(ctx, "node failed", "chain", f.chain, "node", f.name, "error", f.err)
	return until.Sub(now)
}

// inOrder returns the nodes in cooldown after the others.
func (r *Reader) inOrder(nodes []*node) []*node {
	now := r.now()
	var ready, cooling []*node
	for _, n := range nodes {
		if n.inCooldown(now) {
			cooling = append(cooling, n)
		} else {
			ready = append(ready, n)
		}
	}
	return append(ready, cooling...)
}

// readFrom reads the balances of all holders at a node's newest block.
func (r *Reader) readFrom(ctx context.Context, n *node, check headCheck,
	requests []balancesync.Request) ([]balancesync.Reading, error) {
	queries := queriesOf(requests)
	ctx, cancel := context.WithTimeout(ctx, r.readTimeout(len(queries)))
	defer cancel()
	b, err := r.newest(ctx, n)
	if err == nil {
		err = check(ctx, n, b)
	}
	if err != nil {
		return nil, err
	}
	results, err := r.readChunks(ctx, n, b, queries)
	if err == nil {
		err = checkAnyRead(results, b)
	}
	if err != nil {
		return nil, err
	}
	return readingsOf(b, results, make([]bool, len(results)), requests), nil
}

// readTimeout is how long a node may take for this many balances. It grows with
// the number of calls, so that a node that is fast enough for one wallet is fast
// enough for a batch.
func (r *Reader) readTimeout(balances int) time.Duration {
	return r.baseTimeout + r.timeoutPerCall*time.Duration(balances/r.chunkSize)
}

// newest returns a node's newest block. It is an error if that is in the future.
func (r *Reader) newest(ctx context.Context, n *node) (block.Block, error) {
	b, err := n.newest(ctx)
	if err != nil {
		return b, fmt.Errorf("newest block: %w", err)
	}
	if b.Time.After(r.now().Add(maxClockSkew)) {
		return b, &futureError{b}
	}
	return b, nil
}
