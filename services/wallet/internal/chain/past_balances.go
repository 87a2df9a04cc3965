package chain

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/holiman/uint256"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"golang.org/x/sync/errgroup"

	"github.com/purserhq/purser/pkg/redact"
	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/history"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

const (
	// pastCallTimeout bounds one call about the past.
	pastCallTimeout = 2 * time.Second
	// maxConcurrentTimes is how many times are read concurrently, and
	// maxConcurrentChunks how many chunks of each.
	maxConcurrentTimes, maxConcurrentChunks = 8, 4
)

// ReadAt implements history.BalanceReader.
func (r *Reader) ReadAt(ctx context.Context, chain uint64, times []time.Time, holders []common.Address,
	tokens []token.Token) ([]history.Reading, error) {
	ctx, span := otel.Tracer(tracer).Start(ctx, "chain.ReadAt", spanOptions(chain, len(tokens),
		attribute.Int("times", len(times)), attribute.Int("holders", len(holders)))...)
	defer span.End()
	p := &pastReading{reader: r, chain: chain, times: times, holders: holders, tokens: tokens,
		readings: make([]history.Reading, len(times))}
	err := r.tryNodes(ctx, chain, p.readFrom)
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

// pastReading reads the balances at several times. It collects what the nodes of
// the chain answer, one node after the other.
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
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(maxConcurrentTimes)
	for i, t := range p.times {
		if p.readings[i].Amounts != nil {
			continue
		}
		g.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			reading, err := p.readTime(ctx, n, search, head, t)
			if err != nil && !errors.Is(err, errNoState) && !errors.Is(err, errNoMulticall) {
				return err
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			p.readings[i] = reading
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	p.answered = true
	for i := range p.readings {
		if p.readings[i].Amounts == nil {
			return errNoState // another node may have it
		}
	}
	return nil
}

func (p *pastReading) newest(ctx context.Context, n *node) (block.Block, error) {
	ctx, cancel := context.WithTimeout(ctx, pastCallTimeout)
	defer cancel()
	return p.reader.newest(ctx, n)
}

// readTime reads the balances at t. With errNoState and errNoMulticall the
// reading's Error says why there are none.
func (p *pastReading) readTime(ctx context.Context, n *node, search *blockSearch, head block.Block,
	t time.Time) (history.Reading, error) {
	if !head.Time.After(t) {
		return history.Reading{Error: fmt.Sprintf("chain eip155:%d has no block after this hour yet", p.chain)},
			errNoState
	}
	b, found, err := search.lastAt(ctx, t)
	if err == nil && !found { // before the chain's first block every balance is zero
		return history.Reading{Amounts: p.zeros()}, nil
	}
	var amounts [][]*uint256.Int
	if err == nil {
		amounts, err = p.balances(ctx, n, b)
	}
	switch {
	case errors.Is(err, errNoState):
		return history.Reading{Error: fmt.Sprintf(
			"no node of chain eip155:%d has the state of this hour: it takes an archive node", p.chain)}, err
	case errors.Is(err, errNoMulticall):
		return history.Reading{Error: fmt.Sprintf("chain eip155:%d had no Multicall3 contract in this hour",
			p.chain)}, err
	}
	return history.Reading{Block: b, Amounts: amounts}, err
}

// zeros is a balance of zero for every holder and token.
func (p *pastReading) zeros() [][]*uint256.Int {
	results := make([]result, len(p.holders)*len(p.tokens))
	for i := range results {
		results[i].amount = new(uint256.Int)
	}
	return amountsByHolder(results, len(p.holders), len(p.tokens))
}

// balances reads the balances at a block. Those of a contract that did not exist
// yet are zero.
func (p *pastReading) balances(ctx context.Context, n *node, b block.Block) ([][]*uint256.Int, error) {
	if len(p.tokens) == 0 {
		return p.zeros(), nil
	}
	results, err := p.readChunks(ctx, n, b, queriesFor(p.holders, p.tokens))
	if err != nil {
		return nil, err
	}
	for i := range results {
		if !results[i].noData {
			continue
		}
		withoutCode, err := isWithoutCode(ctx, n, b, p.tokens[i%len(p.tokens)].Contract)
		if err != nil {
			return nil, err
		}
		if withoutCode {
			results[i].amount = new(uint256.Int)
		}
	}
	return amountsByHolder(results, len(p.holders), len(p.tokens)), checkAnyRead(results, b)
}

// readChunks reads balances at a block, several chunks concurrently: all of an
// hour have to be read in about the time of one call, however small the chunks
// are.
func (p *pastReading) readChunks(ctx context.Context, n *node, b block.Block, queries []query) ([]result, error) {
	results := make([]result, len(queries))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(maxConcurrentChunks)
	for start := 0; start < len(queries); start += p.reader.chunkSize {
		g.Go(func() error {
			limited, cancel := context.WithTimeout(ctx, pastCallTimeout)
			defer cancel()
			end := min(start+p.reader.chunkSize, len(queries))
			read, err := p.reader.readChunk(limited, n, b, queries[start:end])
			copy(results[start:], read)
			return err
		})
	}
	return results, g.Wait()
}

// isWithoutCode reports whether a contract has no code at a block. Then it had
// none at earlier blocks either.
func isWithoutCode(ctx context.Context, n *node, b block.Block, contract common.Address) (bool, error) {
	if n.knownWithoutCode(contract, b.Number) {
		return true, nil
	}
	ctx, cancel := context.WithTimeout(ctx, pastCallTimeout)
	defer cancel()
	code, err := n.client.CodeAtHash(ctx, contract, b.Hash)
	if isNoState(err) {
		return false, fmt.Errorf("%w of block %d: %w", errNoState, b.Number, redact.Error(err, n.url))
	}
	if err != nil {
		return false, fmt.Errorf("code of %s: %w", contract, err)
	}
	if len(code) > 0 {
		return false, nil
	}
	n.rememberWithoutCode(contract, b.Number)
	return true, nil
}
