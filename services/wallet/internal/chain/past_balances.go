package chain

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/rpc"
	"github.com/holiman/uint256"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"golang.org/x/sync/errgroup"

	"github.com/purserhq/purser/services/wallet/internal/balancesync"
	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/history"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

const (
	// pastCallTimeout bounds one HTTP request about the past.
	pastCallTimeout = 2 * time.Second
	// pastChunkTimeout bounds what else it takes to read a chunk of the past.
	pastChunkTimeout = 2 * pastCallTimeout
	// maxConcurrentGroups is how many groups of times are read concurrently.
	maxConcurrentGroups = 8
)

// ReadAt implements history.BalanceReader.
func (r *Reader) ReadAt(ctx context.Context, chain uint64, times []time.Time, holders []common.Address,
	tokens []token.Token) ([]history.Reading, error) {
	ctx, span := otel.Tracer(tracer).Start(ctx, "chain.ReadAt", spanOptions(chain, len(tokens),
		attribute.Int("times", len(times)), attribute.Int("holders", len(holders)))...)
	defer span.End()
	newReading := func() *pastReading {
		return &pastReading{reader: r, chain: chain, times: times, holders: holders, tokens: tokens,
			readings: make([]history.Reading, len(times))}
	}
	if r.quorum(chain) > 1 {
		return r.readAgreedAt(ctx, chain, times, newReading)
	}
	p := newReading()
	_, err := tryNodes(ctx, r, chain, r.inOrder(r.nodes[chain]), pastHedgeDelay,
		func(ctx context.Context, n *node) (struct{}, error) { return struct{}{}, p.readFrom(ctx, n) })
	if err != nil && ctx.Err() == nil && p.answered {
		err = nil // the readings say what that node does not have
	}
	if err != nil { // a node that was not asked may have what failed
		for i := range p.readings {
			p.readings[i].Error = ""
		}
	}
	return p.readings, err
}

// readAgreedAt reads the balances at several times, each of which as many nodes have to answer alike as have to agree.
func (r *Reader) readAgreedAt(ctx context.Context, chain uint64, times []time.Time,
	newReading func() *pastReading) ([]history.Reading, error) {
	quorum := r.quorum(chain)
	enough := isSettled(quorum, pastKey)
	answers, err := askQuorum(ctx, r, chain, r.inOrder(r.nodes[chain]), pastHedgeDelay,
		func(answers []answer[[]history.Reading]) bool {
			if !enough(answers) {
				return false
			}
			agreed, _ := settle(answers, quorum, pastKey)
			return !slices.ContainsFunc(agreed, func(r history.Reading) bool { return r.Amounts == nil })
		},
		func(ctx context.Context, n *node) ([]history.Reading, error) {
			p := newReading()
			if err := p.readFrom(ctx, n); err != nil && !p.answered {
				return nil, err
			}
			return p.readings, nil
		})
	if err != nil {
		return make([]history.Reading, len(times)), err
	}
	readings, open := settle(answers, quorum, pastKey)
	for i, isOpen := range open {
		if !isOpen {
			continue
		}
		readings[i] = history.Reading{Error: fmt.Sprintf("%d nodes of chain eip155:%d have to agree on the balances "+
			"of this hour, and don't", quorum, chain)}
		for _, a := range answers {
			if text := a.value[i].Error; text != "" {
				readings[i].Error = text
			}
		}
		r.log.WarnContext(ctx, "nodes disagree", "chain", chain, "about", "balances of "+times[i].Format(time.RFC3339))
	}
	return readings, nil
}

// pastKey is a reading that can be compared.
func pastKey(r history.Reading) string {
	var key strings.Builder
	fmt.Fprintf(&key, "%d %x %d %q", r.Block.Number, r.Block.Hash, r.Block.Time.Unix(), r.Error)
	for _, amounts := range r.Amounts {
		key.WriteByte('\n')
		for _, a := range amounts {
			if a != nil {
				key.WriteString(a.Hex())
			}
			key.WriteByte(' ')
		}
	}
	return key.String()
}

// pastReading reads the balances at several times. It collects what nodes of the
// chain answer, one after the other or, when one is silent, beside each other.
type pastReading struct {
	reader  *Reader
	chain   uint64
	times   []time.Time
	holders []common.Address
	tokens  []token.Token

	mu       sync.Mutex
	readings []history.Reading
	answered bool // by a node, for every time: with balances or an error
}

// readFrom reads from a node what no earlier one had.
func (p *pastReading) readFrom(ctx context.Context, n *node) error {
	head, err := p.newest(ctx, n)
	if err != nil {
		return err
	}
	search, err := newBlockSearch(ctx, n, head, p.reader.now().Add(-block.FinalAfter))
	if err != nil {
		return err
	}
	chunks, err := p.chunks()
	if err != nil {
		return err
	}
	open := p.open()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(maxConcurrentGroups)
	for group := range slices.Chunk(open, p.timesPerGroup(n)) {
		g.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return p.readGroup(ctx, n, search, head, chunks, group)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	p.setAnswered()
	if len(p.open()) > 0 {
		return errNoState // another node may have it
	}
	return nil
}

// open returns the times of which there are no balances yet.
func (p *pastReading) open() (open []int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.times {
		if p.readings[i].Amounts == nil {
			open = append(open, i)
		}
	}
	return open
}

func (p *pastReading) setAnswered() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answered = true
}

// timesPerGroup is how many times are read together: as many as fit into one
// batch, and one from a node that takes no batches.
func (p *pastReading) timesPerGroup(n *node) int {
	balances := max(1, len(p.holders)*len(p.tokens))
	return min(n.batchSize(), max(1, maxBatchBalances/balances))
}

func (p *pastReading) newest(ctx context.Context, n *node) (block.Block, error) {
	ctx, cancel := context.WithTimeout(ctx, pastCallTimeout)
	defer cancel()
	return p.reader.newest(ctx, n)
}

// readGroup reads the balances at the times of these indexes. The error is that of
// one of them; the others are read all the same.
func (p *pastReading) readGroup(ctx context.Context, n *node, search *blockSearch, head block.Block, chunks []chunk,
	group []int) error {
	var times []time.Time
	var searched []int
	for _, i := range group {
		if head.Time.After(p.times[i]) {
			times, searched = append(times, p.times[i]), append(searched, i)
			continue
		}
		p.set(i, history.Reading{Error: fmt.Sprintf("chain eip155:%d has no block after this hour yet", p.chain)})
	}
	var failed error
	var blocks []block.Block
	var found []int
	for j, f := range search.lastAt(ctx, times) {
		switch i := searched[j]; {
		case f.err != nil:
			failed = cmp.Or(failed, p.fail(i, f.err))
		case f.none: // before the chain's first block every balance is zero
			p.set(i, history.Reading{Amounts: p.zeros()})
		default:
			blocks, found = append(blocks, f.Block), append(found, i)
		}
	}
	for j, read := range p.balances(ctx, n, blocks, chunks) {
		if read.err != nil {
			failed = cmp.Or(failed, p.fail(found[j], read.err))
			continue
		}
		p.set(found[j], history.Reading{Block: blocks[j], Amounts: read.amounts})
	}
	return failed
}

// set keeps a reading, unless there are balances of another node.
func (p *pastReading) set(i int, r history.Reading) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.readings[i].Amounts == nil {
		p.readings[i] = r
	}
}

// fail records that the node does not have what a time needs. It returns any other
// error.
func (p *pastReading) fail(i int, err error) error {
	switch {
	case errors.Is(err, errNoState):
		p.set(i, history.Reading{Error: fmt.Sprintf(
			"no node of chain eip155:%d has the state of this hour: it takes an archive node", p.chain)})
	default:
		return err
	}
	return nil
}

// asks are for every token of every holder.
func (p *pastReading) requests() []balancesync.Request { return requestsFor(p.holders, p.tokens) }

// zeros is a balance of zero for every holder and token.
func (p *pastReading) zeros() [][]*uint256.Int {
	results := make([]result, len(p.holders)*len(p.tokens))
	for i := range results {
		results[i].amount = new(uint256.Int)
	}
	return amountsOf(results, p.requests())
}

// chunk is the queries of one call, the same at every block.
type chunk struct {
	queries []query
	data    []byte // the call
}

func (p *pastReading) chunks() ([]chunk, error) {
	var chunks []chunk
	for queries := range slices.Chunk(queriesOf(p.requests()), p.reader.chunkSize) {
		data, err := p.reader.codec.pack(queries)
		if err != nil {
			return nil, err
		}
		chunks = append(chunks, chunk{queries, data})
	}
	return chunks, nil
}

// balancesAt is the balances at a block, by holder and token.
type balancesAt struct {
	amounts [][]*uint256.Int
	err     error
}

// balances reads the balances at each of the blocks.
func (p *pastReading) balances(ctx context.Context, n *node, blocks []block.Block, chunks []chunk) []balancesAt {
	read := make([]balancesAt, len(blocks))
	replies := p.callChunks(ctx, n, blocks, chunks)
	var g errgroup.Group
	g.SetLimit(maxConcurrentRequests)
	for i, b := range blocks {
		g.Go(func() error {
			read[i].amounts, read[i].err = p.amounts(ctx, n, b, chunks, replies[i*len(chunks):][:len(chunks)])
			return nil
		})
	}
	_ = g.Wait()
	return read
}

// callChunks calls for all chunks at all blocks. It returns the calls of the first
// block, then those of the next; calls at a block without Multicall3 are not made.
func (p *pastReading) callChunks(ctx context.Context, n *node, blocks []block.Block, chunks []chunk) []rpc.BatchElem {
	var calls, made []rpc.BatchElem
	var at []block.Block
	var places []int
	for _, b := range blocks {
		for _, c := range chunks {
			call := p.reader.codec.call(c.data, gasOf(len(c.queries)))
			if !n.knownWithoutCode(p.reader.codec.address, b.Number) {
				made, at, places = append(made, call), append(at, b), append(places, len(calls))
			}
			calls = append(calls, call)
		}
	}
	n.callAllAt(ctx, pastCallTimeout, at, made)
	for i, place := range places {
		calls[place] = made[i]
	}
	return calls
}

// amounts decodes the replies of a block. Balances of a contract that did not exist
// yet are zero.
func (p *pastReading) amounts(ctx context.Context, n *node, b block.Block, chunks []chunk,
	replies []rpc.BatchElem) ([][]*uint256.Int, error) {
	if len(p.tokens) == 0 {
		return p.zeros(), nil
	}
	var results []result
	for i, c := range chunks {
		limited, cancel := context.WithTimeout(ctx, pastChunkTimeout)
		read, err := p.reader.chunkResults(limited, pastCallTimeout, n, b, c.queries, replies[i])
		cancel()
		if err != nil {
			return nil, err
		}
		results = append(results, read...)
	}
	for i := range results {
		if !results[i].noData {
			continue
		}
		withoutCode, err := n.isWithoutCode(ctx, pastCallTimeout, b, p.tokens[i%len(p.tokens)].Contract)
		if err != nil {
			return nil, err
		}
		if withoutCode {
			results[i].amount = new(uint256.Int)
		}
	}
	return amountsOf(results, p.requests()), checkAnyRead(results, b)
}

// isWithoutCode reports whether a contract has no code at a block. Then it had
// none at earlier blocks either.
func (n *node) isWithoutCode(ctx context.Context, timeout time.Duration, b block.Block,
	contract common.Address) (bool, error) {
	if n.knownWithoutCode(contract, b.Number) {
		return true, nil
	}
	code, err := n.codeAt(ctx, timeout, b, contract)
	if err != nil {
		return false, fmt.Errorf("code of %s: %w", contract, err)
	}
	if len(code) > 0 {
		return false, nil
	}
	n.rememberWithoutCode(contract, b.Number)
	return true, nil
}
