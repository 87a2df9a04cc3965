package alert

import (
	"context"
	"errors"
	"math/big"
	"slices"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/google/uuid"

	"github.com/purserhq/purser/services/portfolio/internal/defi"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// evaluation is one evaluation of the rules of an owner: what several of them need is read once.
type evaluation struct {
	*Evaluator
	owner      uuid.UUID
	at         time.Time
	tokens     []string // of the rules about prices
	portfolios map[uuid.UUID]*observedPortfolio
	prices     map[string]valuation.Price
	asked      bool // for prices
	err        error
}

// observedPortfolio is what was read of a portfolio.
type observedPortfolio struct {
	portfolio.Portfolio
	gone  bool
	value *valuation.Valuation
	loans *defi.State
	// highest total of the snapshots, nil if there is none; once it was read.
	highest     *apd.Decimal
	readHighest bool
	failed      bool // to read one of them
}

func newEvaluation(e *Evaluator, owner uuid.UUID, rules []Rule) *evaluation {
	run := &evaluation{Evaluator: e, owner: owner, at: e.now().UTC().Truncate(time.Microsecond),
		portfolios: map[uuid.UUID]*observedPortfolio{}}
	for _, r := range rules {
		if r.Kind == PriceAbove || r.Kind == PriceBelow || r.Kind == PriceAge {
			run.tokens = append(run.tokens, r.Token)
		}
	}
	slices.Sort(run.tokens)
	run.tokens = slices.Compact(run.tokens)
	return run
}

// observe returns what there is to see of a rule's figure: false if it could not be read.
func (e *evaluation) observe(ctx context.Context, r Rule) (Observation, bool) {
	switch r.Kind {
	case PriceAbove, PriceBelow, PriceAge:
		return e.observePrice(ctx, r)
	case HealthBelow:
		return e.observeHealth(ctx, r)
	default:
		return e.observeValue(ctx, r)
	}
}

// failed notes an error, and is false.
func (e *evaluation) failed(err error) bool {
	e.err = errors.Join(e.err, err)
	return false
}

// find returns a portfolio, and whether it can be valued. The rules of one that is gone are dropped.
func (e *evaluation) find(ctx context.Context, id uuid.UUID) (*observedPortfolio, bool) {
	if p, ok := e.portfolios[id]; ok {
		return p, !p.gone && !p.failed
	}
	p := &observedPortfolio{}
	e.portfolios[id] = p
	var err error
	p.Portfolio, err = e.from.Values.Find(ctx, e.owner, id)
	switch {
	case gone(err):
		p.gone = true
		if err := e.store.Drop(ctx, e.owner, id); err != nil {
			e.failed(err)
		}
	case err != nil:
		p.failed = true
		e.failed(err)
	}
	return p, err == nil
}

func (e *evaluation) observePrice(ctx context.Context, r Rule) (Observation, bool) {
	if !e.asked {
		e.asked = true
		var err error
		if e.prices, err = e.from.Prices.Now(ctx, e.tokens); err != nil {
			e.failed(err)
		}
	}
	if e.prices == nil {
		return Observation{}, false
	}
	p := e.prices[r.Token]
	if r.Kind == PriceAge {
		if !p.Known() || p.Time.IsZero() {
			return Observation{Missing: true}, true
		}
		return Observation{Figure: e.age(p.Time)}, true
	}
	if !p.Known() || p.Stale {
		return Observation{}, true
	}
	price, _, err := apd.NewFromString(p.Amount)
	if err != nil {
		return Observation{}, e.failed(err)
	}
	return Observation{Figure: price}, true
}

// age of what is of a time, not below 0.
func (e *evaluation) age(of time.Time) *apd.Decimal { return seconds(max(0, e.at.Sub(of))) }

func (e *evaluation) observeHealth(ctx context.Context, r Rule) (Observation, bool) {
	p, ok := e.find(ctx, r.Portfolio)
	if !ok {
		return Observation{}, false
	}
	if p.loans == nil {
		state, err := e.from.Loans.Read(ctx, p.Portfolio, valuation.Currency)
		if err != nil {
			p.failed = true
			return Observation{}, e.failed(err)
		}
		p.loans = &state
	}
	lowest := defi.LowestOf(p.loans.Accounts())
	if lowest.Health.Value != nil {
		return Observation{Figure: lowest.Health.Value, UpperBound: lowest.Unknown > 0}, true
	}
	return Observation{NotApplicable: lowest.Health.Unavailable == defi.ReasonNoDebt ||
		lowest.Health.Unavailable == defi.ReasonDebtTooSmall}, true
}

func (e *evaluation) observeValue(ctx context.Context, r Rule) (Observation, bool) {
	p, ok := e.find(ctx, r.Portfolio)
	if !ok {
		return Observation{}, false
	}
	if p.value == nil {
		v, err := e.from.Values.Value(ctx, p.Portfolio)
		if err != nil {
			p.failed = true
			return Observation{}, e.failed(err)
		}
		p.value = &v
	}
	v := *p.value
	switch r.Kind {
	case WalletAge:
		s := Observation{Missing: v.UnsyncedWallets > 0}
		if !v.OldestBalance.IsZero() {
			s.Figure = e.age(v.OldestBalance)
		}
		return s, true
	case Transfer:
		if v.IncompleteWallets > 0 {
			return Observation{}, true
		}
		return observeAmount(v, r.Token), true
	case DrawdownAbove, ValueChange:
		if !v.Measurable() {
			return Observation{}, true
		}
		return e.compare(ctx, r, p, v)
	}
	return Observation{}, true
}

// observeAmount adds up what wallets have of a token.
func observeAmount(v valuation.Valuation, token string) Observation {
	s, sum := Observation{Membership: v.Membership}, new(big.Int)
	for _, p := range slices.Concat(v.Positions, v.Receipts) {
		if p.TokenID == token && p.Place.InWallet() {
			sum.Add(sum, p.Amount)
			s.Decimals = p.Decimals
		}
	}
	s.Figure = units(sum)
	return s
}

// compare returns how far the value is from an earlier one, as a fraction of that.
func (e *evaluation) compare(ctx context.Context, r Rule, p *observedPortfolio,
	v valuation.Valuation) (Observation, bool) {
	var before *apd.Decimal
	var err error
	switch {
	case r.Kind == ValueChange:
		before, err = e.store.TotalAt(ctx, r.Portfolio, e.at.Add(-r.Window))
	case p.readHighest:
		before = p.highest
	default:
		before, err = e.store.HighestTotal(ctx, r.Portfolio)
		p.highest, p.readHighest = before, err == nil
	}
	if err != nil {
		return Observation{}, e.failed(err)
	}
	if before == nil || before.Sign() <= 0 {
		return Observation{}, true
	}
	change, ratio := new(apd.Decimal), new(apd.Decimal)
	if _, err := exact().Sub(change, v.Total, before); err != nil {
		return Observation{}, e.failed(err)
	}
	if r.Kind == DrawdownAbove {
		if change.Sign() >= 0 { // as high as ever
			return Observation{Figure: new(apd.Decimal)}, true
		}
		change.Neg(change)
	}
	if _, err := ratioContext().Quo(ratio, change, before); err != nil {
		return Observation{}, e.failed(err)
	}
	return Observation{Figure: ratio}, true
}

// ratioContext rounds fractions to 18 digits.
func ratioContext() *apd.Context { return apd.BaseContext.WithPrecision(18) }
