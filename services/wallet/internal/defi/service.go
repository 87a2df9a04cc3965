package defi

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/purserhq/purser/pkg/deadline"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/caip"
)

// maxSteps is how often an adapter may ask; those that there are ask at most five times.
const maxSteps = 10

// balanceReserve is what is left of a caller's time after positions were read, to store the balances.
const balanceReserve = 3 * time.Second

// Caller calls contracts; package chain does it over JSON-RPC.
type Caller interface {
	// CallAt makes calls at a block of a chain, and returns their answers in the same order. The error is that of a
	// chain that can't be read at that block.
	CallAt(ctx context.Context, chain uint64, at block.Block, calls []Call) ([]Answer, error)
	// WithoutCode reports which contracts have no code at a block, and had none before. The error is as of CallAt.
	WithoutCode(ctx context.Context, chain uint64, at block.Block, contracts []common.Address) ([]bool, error)
}

// Service reads the positions of holders in markets. It is safe for concurrent use.
type Service struct {
	markets map[uint64][]Market
	caller  Caller
	log     *slog.Logger
}

// NewService returns a reader of markets, whose protocols are known.
func NewService(markets Markets, c Caller, log *slog.Logger) *Service {
	s := &Service{markets: map[uint64][]Market{}, caller: c, log: log}
	for _, m := range markets {
		s.markets[m.Chain] = append(s.markets[m.Chain], m)
	}
	return s
}

// Markets is how many markets of a chain are read.
func (s *Service) Markets(chain uint64) int { return len(s.markets[chain]) }

// Read returns what each holder has in each market of a chain at a block, by holder in their order: nil without
// markets. It never fails: what can't be read is missing in the readings, and is logged. It leaves some of ctx's time.
func (s *Service) Read(ctx context.Context, chain uint64, at block.Block, holders []common.Address) [][]Reading {
	if len(s.markets[chain]) == 0 || len(holders) == 0 {
		return nil
	}
	if left, ok := deadline.Remaining(ctx); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, max(left/2, left-balanceReserve))
		defer cancel()
	}
	return s.collect(ctx, chain, at, s.run(ctx, s.caller, chain, at, s.markets[chain], holders), len(holders))
}

// ReadPast is Read at a past block, without the markets whose contracts were not there yet, and in all of ctx's time.
// The error is that of ctx, when it has ended. Readings that share calls take fewer requests.
func (s *Service) ReadPast(ctx context.Context, chain uint64, at block.Block, holders []common.Address,
	calls *Calls) ([][]Reading, error) {
	markets := s.markets[chain]
	contracts := make([]common.Address, len(markets))
	for i, m := range markets {
		contracts[i] = m.Contract
	}
	// Without an answer all are read, and those that aren't there are missing.
	if without, err := s.caller.WithoutCode(ctx, chain, at, contracts); err == nil {
		all := markets
		markets = nil
		for i, m := range all {
			if !without[i] {
				markets = append(markets, m)
			}
		}
	}
	caller := newAtOnce(s.caller, calls)
	runs := s.run(ctx, caller, chain, at, markets, holders)
	if ctx.Err() != nil {
		return nil, fmt.Errorf("read positions: %w", ctx.Err())
	}
	calls.made.Store(&caller.made)
	return s.collect(ctx, chain, at, runs, len(holders)), nil
}

// run reads markets of a chain.
func (s *Service) run(ctx context.Context, c Caller, chain uint64, at block.Block, markets []Market,
	holders []common.Address) []*run {
	runs := make([]*run, len(markets))
	for i, m := range markets {
		runs[i] = start(adapters[m.Protocol], m, holders)
	}
	s.answer(ctx, c, chain, at, runs)
	return runs
}

// collect returns the readings of runs by holder, and logs what is missing.
func (s *Service) collect(ctx context.Context, chain uint64, at block.Block, runs []*run, holders int) [][]Reading {
	out := make([][]Reading, holders)
	for _, r := range runs {
		s.tell(ctx, chain, at, r)
		for i := range out {
			out[i] = append(out[i], r.readings[i])
		}
	}
	return out
}

// run is an adapter's reading of a market. Between two of its questions it is suspended.
type run struct {
	market   Market
	holders  int
	next     func() ([]Call, bool)
	stop     func()
	asked    []Call
	answers  []Answer
	readings []Reading
}

// start returns a run that has not asked yet.
func start(a Adapter, m Market, holders []common.Address) *run {
	r := &run{market: m, holders: len(holders)}
	r.next, r.stop = iter.Pull(func(yield func([]Call) bool) {
		stopped := false
		r.readings = a.Read(m, holders, func(calls []Call) []Answer {
			if len(calls) == 0 {
				return nil
			}
			if stopped || !yield(calls) {
				stopped = true
				return make([]Answer, len(calls))
			}
			return r.answers
		})
	})
	return r
}

// answer answers the questions of runs until all have ended, each time those of all together.
func (s *Service) answer(ctx context.Context, c Caller, chain uint64, at block.Block, runs []*run) {
	for range maxSteps {
		var open []*run
		var calls []Call
		for _, r := range runs {
			var more bool
			if r.asked, more = r.next(); more {
				open, calls = append(open, r), append(calls, r.asked...)
			}
		}
		if runs = open; len(runs) == 0 {
			return
		}
		answers, err := answersTo(ctx, c, chain, at, calls)
		if err != nil {
			if ctx.Err() == nil {
				s.log.WarnContext(ctx, "positions not read", "chain", caip.ChainID(chain), "block", at.Number,
					"error", err)
			}
			fail(runs, "the chain could not be read: "+textOf(err))
			return
		}
		for _, r := range runs {
			r.answers, answers = answers[:len(r.asked)], answers[len(r.asked):]
		}
	}
	fail(runs, "it takes too many steps")
}

// fail ends runs whose markets are unknown.
func fail(runs []*run, why string) {
	for _, r := range runs {
		r.stop()
		r.readings = unknown(r.market, r.holders, why)
	}
}

// tell logs a market of which something is missing, once for all holders.
func (s *Service) tell(ctx context.Context, chain uint64, at block.Block, r *run) {
	missing, first := 0, ""
	for _, reading := range r.readings {
		if reading.Missing != "" {
			if missing++; first == "" {
				first = reading.Missing
			}
		}
	}
	if missing > 0 {
		s.log.WarnContext(ctx, "market not read", "market", r.market.String(), "chain", caip.ChainID(chain),
			"block", at.Number, "holders", r.holders, "missing", missing, "first", first)
	}
}

// textOf is what of an error a user may see.
func textOf(err error) string {
	if e := errs.As(err); e != nil {
		return e.Message
	}
	return "internal error"
}
