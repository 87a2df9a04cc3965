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

// look is one look at the rules of an owner: what several of them need is read once.
type look struct {
	*Evaluator
	owner      uuid.UUID
	at         time.Time
	tokens     []string // of the rules about prices
	portfolios map[uuid.UUID]*seenPortfolio
	prices     map[string]valuation.Price
	asked      bool // for prices
	err        error
}

// seenPortfolio is what was read of a portfolio.
type seenPortfolio struct {
	portfolio.Portfolio
	gone  bool
	value *valuation.Valuation
	loans *defi.State
	// highest total of the snapshots, nil if there is none; once it was read.
	highest     *apd.Decimal
	readHighest bool
	failed      bool // to read one of them
}

func newLook(e *Evaluator, owner uuid.UUID, rules []Rule) *look {
	l := &look{Evaluator: e, owner: owner, at: e.now().UTC().Truncate(time.Microsecond),
		portfolios: map[uuid.UUID]*seenPortfolio{}}
	for _, r := range rules {
		if r.Kind == PriceAbove || r.Kind == PriceBelow || r.Kind == PriceAge {
			l.tokens = append(l.tokens, r.Token)
		}
	}
	slices.Sort(l.tokens)
	l.tokens = slices.Compact(l.tokens)
	return l
}

// see returns what there is to see of a rule's figure: false if it could not be read.
func (l *look) see(ctx context.Context, r Rule) (Sight, bool) {
	switch r.Kind {
	case PriceAbove, PriceBelow, PriceAge:
		return l.seePrice(ctx, r)
	case HealthBelow:
		return l.seeHealth(ctx, r)
	default:
		return l.seeValue(ctx, r)
	}
}

// failed notes an error, and is false.
func (l *look) failed(err error) bool {
	l.err = errors.Join(l.err, err)
	return false
}

// find returns a portfolio, and whether it can be looked at. The rules of one that is gone are dropped.
func (l *look) find(ctx context.Context, id uuid.UUID) (*seenPortfolio, bool) {
	if p, ok := l.portfolios[id]; ok {
		return p, !p.gone && !p.failed
	}
	p := &seenPortfolio{}
	l.portfolios[id] = p
	var err error
	p.Portfolio, err = l.from.Values.Find(ctx, l.owner, id)
	switch {
	case gone(err):
		p.gone = true
		if err := l.store.Drop(ctx, l.owner, id); err != nil {
			l.failed(err)
		}
	case err != nil:
		p.failed = true
		l.failed(err)
	}
	return p, err == nil
}

func (l *look) seePrice(ctx context.Context, r Rule) (Sight, bool) {
	if !l.asked {
		l.asked = true
		var err error
		if l.prices, err = l.from.Prices.Now(ctx, l.tokens); err != nil {
			l.failed(err)
		}
	}
	if l.prices == nil {
		return Sight{}, false
	}
	p := l.prices[r.Token]
	if r.Kind == PriceAge {
		if !p.Known() || p.Time.IsZero() {
			return Sight{Missing: true}, true
		}
		return Sight{Figure: l.age(p.Time)}, true
	}
	if !p.Known() || p.Stale {
		return Sight{}, true
	}
	price, _, err := apd.NewFromString(p.Amount)
	if err != nil {
		return Sight{}, l.failed(err)
	}
	return Sight{Figure: price}, true
}

// age of what is of a time, not below 0.
func (l *look) age(of time.Time) *apd.Decimal { return seconds(max(0, l.at.Sub(of))) }

func (l *look) seeHealth(ctx context.Context, r Rule) (Sight, bool) {
	p, ok := l.find(ctx, r.Portfolio)
	if !ok {
		return Sight{}, false
	}
	if p.loans == nil {
		state, err := l.from.Loans.Read(ctx, p.Portfolio, valuation.Currency)
		if err != nil {
			p.failed = true
			return Sight{}, l.failed(err)
		}
		p.loans = &state
	}
	lowest := defi.LowestOf(p.loans.Accounts())
	if lowest.Health.Value != nil {
		return Sight{Figure: lowest.Health.Value, AtMost: lowest.Unknown > 0}, true
	}
	return Sight{NotApplicable: lowest.Health.Unavailable == defi.ReasonNoDebt ||
		lowest.Health.Unavailable == defi.ReasonDebtTooSmall}, true
}

func (l *look) seeValue(ctx context.Context, r Rule) (Sight, bool) {
	p, ok := l.find(ctx, r.Portfolio)
	if !ok {
		return Sight{}, false
	}
	if p.value == nil {
		v, err := l.from.Values.Value(ctx, p.Portfolio)
		if err != nil {
			p.failed = true
			return Sight{}, l.failed(err)
		}
		p.value = &v
	}
	v := *p.value
	switch r.Kind {
	case WalletAge:
		s := Sight{Missing: v.UnsyncedWallets > 0}
		if !v.OldestBalance.IsZero() {
			s.Figure = l.age(v.OldestBalance)
		}
		return s, true
	case Transfer:
		if v.IncompleteWallets > 0 {
			return Sight{}, true
		}
		return seeAmount(v, r.Token), true
	case DrawdownAbove, ValueChange:
		if !v.Measurable() {
			return Sight{}, true
		}
		return l.compare(ctx, r, p, v)
	}
	return Sight{}, true
}

// seeAmount adds up what wallets have of a token.
func seeAmount(v valuation.Valuation, token string) Sight {
	s, sum := Sight{Membership: v.Membership}, new(big.Int)
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
func (l *look) compare(ctx context.Context, r Rule, p *seenPortfolio, v valuation.Valuation) (Sight, bool) {
	var before *apd.Decimal
	var err error
	switch {
	case r.Kind == ValueChange:
		before, err = l.store.TotalAt(ctx, r.Portfolio, l.at.Add(-r.Window))
	case p.readHighest:
		before = p.highest
	default:
		before, err = l.store.HighestTotal(ctx, r.Portfolio)
		p.highest, p.readHighest = before, err == nil
	}
	if err != nil {
		return Sight{}, l.failed(err)
	}
	if before == nil || before.Sign() <= 0 {
		return Sight{}, true
	}
	change, ratio := new(apd.Decimal), new(apd.Decimal)
	if _, err := exact().Sub(change, v.Total, before); err != nil {
		return Sight{}, l.failed(err)
	}
	if r.Kind == DrawdownAbove {
		if change.Sign() >= 0 { // as high as ever
			return Sight{Figure: new(apd.Decimal)}, true
		}
		change.Neg(change)
	}
	if _, err := ratioContext().Quo(ratio, change, before); err != nil {
		return Sight{}, l.failed(err)
	}
	return Sight{Figure: ratio}, true
}

// ratioContext rounds fractions to 18 digits.
func ratioContext() *apd.Context { return apd.BaseContext.WithPrecision(18) }
