package chain

import (
	"context"
	"errors"
	"fmt"
	"math"
	"regexp"
	gosync "sync"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/holiman/uint256"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"github.com/purserhq/purser/pkg/redact"
	"github.com/purserhq/purser/services/wallet/internal/history"
	"github.com/purserhq/purser/services/wallet/internal/sync"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

const (
	// pastTimeout bounds one call about the past.
	pastTimeout = 2 * time.Second
	// together is how many moments are read at once, and sideBySide how many
	// calls about one.
	together, sideBySide = 8, 4
)

var (
	// errNoState is a block whose state the node doesn't have (any more).
	errNoState = errors.New("the node has no state")
	// errNoMulticall is a block at which the contract is not there.
	errNoMulticall = errors.New("no Multicall3")
)

// pruned is how nodes say that they have no state.
var pruned = regexp.MustCompile(`(?i)missing trie node|pruned?\b|pruning|archive|(world |historical |required historical )?state .*(not available|unavailable)|no state available|world state unavailable|no historical rpc`)

func noState(err error) bool { return err != nil && pruned.MatchString(redact.Error(err).Error()) }

// ReadAt implements history.Chains.
func (r *Reader) ReadAt(ctx context.Context, chain uint64, times []time.Time, holders []common.Address,
	tokens []token.Token) ([]history.Reading, error) {
	ctx, span := otel.Tracer("purser/wallet/chain").Start(ctx, "chain.ReadAt",
		trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(attribute.Int64("chain.id", int64(min(chain, math.MaxInt64))),
			attribute.Int("times", len(times)),
			attribute.Int("holders", len(holders)), attribute.Int("tokens", len(tokens))))
	defer span.End()
	p := &past{reader: r, chain: chain, times: times, holders: holders, tokens: tokens,
		out: make([]history.Reading, len(times))}
	err := r.first(ctx, chain, p.from)
	if err != nil && ctx.Err() == nil && p.said {
		err = nil // a node answered: what it couldn't say is in the readings
	}
	if err != nil { // what failed may yet be had from a node that was not asked
		for i := range p.out {
			p.out[i].Failed = ""
		}
	}
	return p.out, err
}

// past is a reading of several moments.
type past struct {
	reader  *Reader
	chain   uint64
	times   []time.Time
	holders []common.Address
	tokens  []token.Token

	mu   gosync.Mutex
	out  []history.Reading
	said bool // some node's reason stands for every moment that was not read
}

// from reads from a node what was not read yet.
func (p *past) from(ctx context.Context, n *node) error {
	head, err := p.newest(ctx, n)
	if err != nil {
		return err
	}
	find, err := newSearch(ctx, n, head, p.reader.now().Add(-history.Settled))
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(together)
	for i, t := range p.times {
		if p.out[i].Amounts != nil {
			continue
		}
		g.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			got, err := p.moment(ctx, n, find, head, t)
			if err != nil && !errors.Is(err, errNoState) && !errors.Is(err, errNoMulticall) {
				return err
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			p.out[i] = got
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	p.said = true
	for i := range p.out {
		if p.out[i].Amounts == nil {
			return errNoState // another node may have it
		}
	}
	return nil
}

func (p *past) newest(ctx context.Context, n *node) (sync.Block, error) {
	ctx, cancel := context.WithTimeout(ctx, pastTimeout)
	defer cancel()
	return p.reader.newest(ctx, n)
}

// moment reads the balances at t. With errNoState and errNoMulticall it says in
// the reading why there is none.
func (p *past) moment(ctx context.Context, n *node, find *search, head sync.Block, t time.Time) (history.Reading,
	error) {
	if !head.Time.After(t) {
		return history.Reading{Failed: fmt.Sprintf("chain eip155:%d has no block after this hour yet", p.chain)},
			errNoState
	}
	b, found, err := find.at(ctx, t)
	if err == nil && !found { // nobody held anything before the chain began
		return history.Reading{Amounts: p.nothing()}, nil
	}
	var amounts [][]*uint256.Int
	if err == nil {
		amounts, err = p.balances(ctx, n, b)
	}
	switch {
	case errors.Is(err, errNoState):
		return history.Reading{Failed: fmt.Sprintf(
			"no node of chain eip155:%d has the state of this hour: it takes an archive node", p.chain)}, err
	case errors.Is(err, errNoMulticall):
		return history.Reading{Failed: fmt.Sprintf("chain eip155:%d had no Multicall3 contract in this hour",
			p.chain)}, err
	}
	return history.Reading{Block: b, Amounts: amounts}, err
}

// nothing is a zero for every holder and token.
func (p *past) nothing() [][]*uint256.Int {
	zeros := make([]answer, len(p.holders)*len(p.tokens))
	for i := range zeros {
		zeros[i].amount = new(uint256.Int)
	}
	return perHolder(zeros, len(p.holders), len(p.tokens))
}

// balances reads them at a block. Of a contract that was not there yet they
// are zero.
func (p *past) balances(ctx context.Context, n *node, b sync.Block) ([][]*uint256.Int, error) {
	if len(p.tokens) == 0 {
		return p.nothing(), nil
	}
	answers, err := p.askAll(ctx, n, b, questions(p.holders, p.tokens))
	if err != nil {
		return nil, err
	}
	for i := range answers {
		if !answers[i].empty {
			continue
		}
		absent, err := p.absent(ctx, n, b, p.tokens[i%len(p.tokens)].Contract)
		if err != nil {
			return nil, err
		}
		if absent {
			answers[i].amount = new(uint256.Int)
		}
	}
	return perHolder(answers, len(p.holders), len(p.tokens)), readable(answers, b)
}

// askAll asks for balances at a block, several calls at once: an hour has to be
// done in the time of a call for the past, however few balances a node may be
// asked for in one.
func (p *past) askAll(ctx context.Context, n *node, b sync.Block, asked []question) ([]answer, error) {
	answers := make([]answer, len(asked))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(sideBySide)
	for at := 0; at < len(asked); at += p.reader.chunk {
		g.Go(func() error {
			limited, cancel := context.WithTimeout(ctx, pastTimeout)
			defer cancel()
			some, err := p.reader.ask(limited, n, b, asked[at:min(at+p.reader.chunk, len(asked))])
			copy(answers[at:], some)
			return err
		})
	}
	return answers, g.Wait()
}

// absent reports whether a contract has no code at a block. One that had none
// at a block had none before it.
func (p *past) absent(ctx context.Context, n *node, b sync.Block, contract common.Address) (bool, error) {
	if n.codeless(contract, b.Number) {
		return true, nil
	}
	ctx, cancel := context.WithTimeout(ctx, pastTimeout)
	defer cancel()
	code, err := n.client.CodeAtHash(ctx, contract, b.Hash)
	if noState(err) {
		return false, fmt.Errorf("%w of block %d: %w", errNoState, b.Number, redact.Error(err, n.url))
	}
	if err != nil {
		return false, fmt.Errorf("code of %s: %w", contract, err)
	}
	if len(code) > 0 {
		return false, nil
	}
	n.noteCodeless(contract, b.Number)
	return true, nil
}
