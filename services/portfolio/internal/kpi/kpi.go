// Package kpi computes the figures of the head of a dashboard.
//
// Its conventions, which hold for every figure:
//   - Figures are decimals. Ratios are fractions, rounded half to even to RatioScale
//     decimals: 0.05 is five per cent.
//   - What isn't known is unavailable, with a reason. It is never 0 for that.
//   - A change is told gross, with the money that came and went, and net of it.
//   - Days and years are those of the caller's time zone.
//   - In a currency, what is of now is converted at the rate of now, and what is of a snapshot at
//     that of its hour. What rests on an hour without a rate is unavailable.
package kpi

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/portfolio/internal/currency"
	"github.com/purserhq/purser/services/portfolio/internal/performance"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/timeline"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// RatioScale is the number of decimals of ratios.
const RatioScale = 12

// Reasons why a figure is unavailable, besides those of package performance.
const (
	ReasonNoSnapshots       = "NO_SNAPSHOTS"
	ReasonNoSnapshotAtStart = "NO_SNAPSHOT_AT_START" // the portfolio is younger, or there is a gap
	ReasonBelowThreshold    = string(performance.ReasonBelowEpsilon)
	ReasonWalletUnavailable = "WALLET_UNAVAILABLE" // the value is a snapshot, which doesn't have the figure
	ReasonNoSyncedWallet    = "NO_SYNCED_WALLET"
	ReasonNoPricedHolding   = "NO_PRICED_HOLDING"
	ReasonNoVerifiedHolding = "NO_VERIFIED_HOLDING"
	ReasonRateUnavailable   = currency.ReasonUnavailable
	dayTolerance            = 2 * time.Hour
	tolerance               = 24 * time.Hour
	moveWithin              = 24 * time.Hour
)

// Figure is a decimal, or the reason why there is none.
type Figure struct {
	Value       *apd.Decimal
	Unavailable string // Value is nil if and only if this is set
}

// Period is a time up to now.
type Period int

// The periods, in their order.
const (
	Day Period = iota + 1
	Days7
	Days30
	Days90
	Year
	YearToDate
	All
)

// Change is how the value moved in a period.
type Change struct {
	Period Period
	// Start is when the period begins, zero for All without snapshots. Snapshot is the hour of
	// the snapshot that it begins with, zero if there is none.
	Start, Snapshot, End  time.Time
	StartValue            Figure
	Gross, GrossRatio     Figure
	NetFlow, Net, NetRate Figure
}

// Highest is the highest value ever, and the fall since.
type Highest struct {
	Value    Figure
	Time     time.Time
	Drawdown Figure
}

// Move is a holding, and how its price moved within 24 hours.
type Move struct {
	Position    valuation.Position
	PriceBefore string
	Ratio       *apd.Decimal
	Unavailable string // the others are unset if and only if this is set
}

// Age is the time of the oldest of something.
type Age struct {
	Time        time.Time
	Unavailable string
}

// KPI are the figures of a portfolio.
type KPI struct {
	// Currency of all values and prices.
	Currency      string
	Valuation     valuation.Valuation
	Now           time.Time
	Changes       []Change
	Highest       Highest
	Best, Worst   Move
	Holdings      int
	UnpricedShare Figure // of the verified positions
	Wallets       Figure
	OldestBalance Age
	OldestPrice   Age
}

// Request is for whom figures are.
type Request struct {
	Zone     string // IANA name, UTC when empty
	Currency string // USD when empty
}

// Peak is a snapshot with the highest total.
type Peak struct {
	Bucket time.Time
	// Total in a currency, nil when the rate of an hour that counts isn't known.
	Total *apd.Decimal
	// Dollars is Total in US dollars.
	Dollars *apd.Decimal
}

// Store reads snapshots.
type Store interface {
	performance.Store
	// HighestSnapshot returns the snapshot with the highest total of those without a price gap, in a
	// currency at the stored rates; the first of equal ones, nil when there is none.
	HighestSnapshot(ctx context.Context, portfolio uuid.UUID, currency string) (*Peak, error)
	// FirstSnapshot returns the hour of the first snapshot at or after a time; zero when there is none.
	FirstSnapshot(ctx context.Context, portfolio uuid.UUID, from time.Time) (time.Time, error)
	// PositionsAt returns the valued positions of the snapshots of some hours.
	PositionsAt(ctx context.Context, portfolio uuid.UUID, buckets []time.Time) (map[time.Time][]valuation.Position,
		error)
	// FlowSince returns what came in since a snapshot with these positions, less what went out, as the
	// net flow of a snapshot of now; passed is the time since.
	FlowSince(now valuation.Valuation, before []valuation.Position, passed time.Duration) (*apd.Decimal, error)
}

// Valuer values portfolios; *portfolio.Service implements it.
type Valuer interface {
	ValueOrLastSnapshot(ctx context.Context, p portfolio.Portfolio) (valuation.Valuation, error)
}

// Service computes figures. It is safe for concurrent use.
type Service struct {
	valuer Valuer
	store  Store
	rates  Rates
	now    func() time.Time
}

// NewService returns the service.
func NewService(v Valuer, s Store, r Rates, now func() time.Time) *Service {
	return &Service{valuer: v, store: s, rates: r, now: now}
}

// Check returns errs.Invalid with every mistake in a request.
func (s *Service) Check(r Request) error {
	_, err := timeline.Zone(r.Zone)
	return errs.AllInvalid(err, currency.Check("currency", r.Currency))
}

// Figures returns the figures of a portfolio. The number of statements is fixed, but for those that read rates. It
// returns errs.Invalid for an unknown time zone or currency, and errs.Unavailable if there is no value, or no rate to
// convert it at.
func (s *Service) Figures(ctx context.Context, p portfolio.Portfolio, r Request) (KPI, error) {
	if err := s.Check(r); err != nil {
		return KPI{}, err
	}
	zone, err := timeline.Zone(r.Zone)
	if err != nil {
		return KPI{}, err
	}
	v, err := s.valuer.ValueOrLastSnapshot(ctx, p)
	if err != nil {
		return KPI{}, err
	}
	rate, err := s.rates.Of(ctx, r.Currency, v, false)
	if err != nil {
		return KPI{}, err
	}
	now := s.now()
	starts := startsOf(now, zone)
	series, err := s.store.Marks(ctx, p.ID, time.Unix(0, 0).UTC(), now, limitsOf(starts))
	if err != nil {
		return KPI{}, err
	}
	marks := series.Marks
	base, missing := baseOf(marks, starts[Day], dayTolerance)
	var buckets []time.Time
	if len(marks) > 0 {
		buckets = append(buckets, marks[len(marks)-1].Time)
	}
	if missing == "" {
		buckets = append(buckets, marks[base].Time)
	}
	positions, err := s.store.PositionsAt(ctx, p.ID, buckets)
	if err != nil {
		return KPI{}, err
	}
	if marks, err = s.withNow(marks, v, positions); err != nil {
		return KPI{}, err
	}
	rates, err := s.ratesOf(ctx, p, marks, len(series.Marks), rate)
	if err != nil {
		return KPI{}, err
	}
	if marks, err = converted(marks, rates); err != nil {
		return KPI{}, err
	}
	highest, err := s.store.HighestSnapshot(ctx, p.ID, rate.Currency)
	if err != nil {
		return KPI{}, err
	}
	if v, err = rate.Valuation(v); err != nil {
		return KPI{}, errs.Internal(err)
	}
	k := KPI{Currency: rate.Currency, Valuation: v, Now: now, Wallets: walletsOf(v)}
	if k.Changes, err = changesOf(marks, starts); err != nil {
		return KPI{}, errs.Internal(err)
	}
	if k.Highest, err = highestOf(highest, marks); err != nil {
		return KPI{}, errs.Internal(err)
	}
	var before []valuation.Position
	if missing == "" {
		before, missing, err = pricesIn(positions[series.Marks[base].Time], rates[base])
		if err != nil {
			return KPI{}, errs.Internal(err)
		}
	}
	if k.Best, k.Worst, err = movesOf(v, before, missing); err != nil {
		return KPI{}, errs.Internal(err)
	}
	k.setCountsAndAges()
	return k, nil
}

// startsOf returns when each period begins, that of All excepted.
func startsOf(now time.Time, zone *time.Location) map[Period]time.Time {
	local := now.In(zone)
	january := time.Date(local.Year(), time.January, 15, 12, 0, 0, 0, zone)
	year, _ := timeline.Boundaries(timeline.Monthly, zone, january, january.Add(1), 1)
	return map[Period]time.Time{
		Day: now.Add(-moveWithin), Days7: local.AddDate(0, 0, -7), Days30: local.AddDate(0, 0, -30),
		Days90: local.AddDate(0, 0, -90), Year: local.AddDate(-1, 0, 0), YearToDate: year[0],
	}
}

// limitsOf returns the limits between which performance.Store.Marks has the last mark: at or before each start.
func limitsOf(starts map[Period]time.Time) []time.Time {
	limits := []time.Time{time.Unix(0, 0).UTC()}
	for _, t := range starts {
		limits = append(limits, t.UTC())
	}
	slices.SortFunc(limits, time.Time.Compare)
	return slices.CompactFunc(limits, time.Time.Equal)
}

// baseOf returns the number of the last mark at or before start, or why there is none of at most this age.
func baseOf(marks []performance.Mark, start time.Time, tolerance time.Duration) (int, string) {
	if len(marks) == 0 {
		return 0, ReasonNoSnapshots
	}
	n, found := slices.BinarySearchFunc(marks, start, func(m performance.Mark, t time.Time) int {
		return m.Time.Compare(t)
	})
	if !found {
		n--
	}
	if n < 0 || start.Sub(marks[n].Time) > tolerance {
		return 0, ReasonNoSnapshotAtStart
	}
	return n, ""
}

// withNow appends the value of now as a mark, unless it lacks what the last snapshot had.
func (s *Service) withNow(marks []performance.Mark, v valuation.Valuation,
	positions map[time.Time][]valuation.Position) ([]performance.Mark, error) {
	if v.Stale || len(marks) == 0 || !v.Measurable() {
		return marks, nil
	}
	last := marks[len(marks)-1]
	before := positions[last.Time]
	if !v.ValuationTime.After(last.Time) || lacksAPrice(v, before) {
		return marks, nil
	}
	flow, err := s.store.FlowSince(v, before, v.ValuationTime.Sub(last.Time))
	if err != nil {
		return nil, errs.Internal(err)
	}
	return append(marks, performance.Mark{Time: v.ValuationTime, Value: v.Total, NetFlow: flow}), nil
}

// lacksAPrice reports whether a token has no price now that had one before.
func lacksAPrice(v valuation.Valuation, before []valuation.Position) bool {
	priced := make(map[string]bool, len(before))
	for _, p := range before {
		priced[p.TokenID] = priced[p.TokenID] || p.Counted()
	}
	return slices.ContainsFunc(v.Positions, func(p valuation.Position) bool {
		return p.Verified && p.Value == nil && priced[p.TokenID]
	})
}

func walletsOf(v valuation.Valuation) Figure {
	if v.Stale {
		return Figure{Unavailable: ReasonWalletUnavailable}
	}
	return Figure{Value: apd.New(int64(v.Wallets), 0)}
}

// setCountsAndAges sets what the valuation itself says.
func (k *KPI) setCountsAndAges() {
	v := k.Valuation
	if k.UnpricedShare.Value = v.UnpricedShare(); k.UnpricedShare.Value == nil {
		k.UnpricedShare.Unavailable = ReasonNoVerifiedHolding
	}
	k.OldestBalance, k.OldestPrice = Age{Time: v.OldestBalance}, Age{Unavailable: ReasonNoPricedHolding}
	switch {
	case v.Stale:
		k.OldestBalance = Age{Unavailable: ReasonWalletUnavailable}
	case v.OldestBalance.IsZero():
		k.OldestBalance = Age{Unavailable: ReasonNoSyncedWallet}
	}
	for _, p := range v.Positions {
		if p.Amount.Sign() == 0 {
			continue
		}
		k.Holdings++
		if p.Counted() && !p.Price.Time.IsZero() &&
			(k.OldestPrice.Unavailable != "" || p.Price.Time.Before(k.OldestPrice.Time)) {
			k.OldestPrice = Age{Time: p.Price.Time}
		}
	}
}

// movesOf returns the holdings whose prices rose most and least since before. Of equal ones it is the more valuable.
func movesOf(v valuation.Valuation, before []valuation.Position, missing string) (best, worst Move, err error) {
	none := Move{Unavailable: cmp.Or(missing, ReasonNoPricedHolding)}
	priceBefore := make(map[string]string, len(before))
	for _, p := range before {
		if p.Counted() && p.Amount.Sign() > 0 && !p.Place.Owed() {
			priceBefore[p.TokenID] = p.Price.Amount
		}
	}
	best, worst = none, none
	for _, p := range v.Positions { // the most valuable first
		then, ok := priceBefore[p.TokenID]
		if !ok || !p.Counted() || p.Amount.Sign() == 0 || p.Place.Owed() {
			continue
		}
		ratio, reason, err := growth(p.Price.Amount, then)
		if err != nil {
			return none, none, err
		}
		if reason != "" {
			continue
		}
		m := Move{Position: p, PriceBefore: then, Ratio: ratio}
		if best.Unavailable != "" || ratio.Cmp(best.Ratio) > 0 {
			best = m
		}
		if worst.Unavailable != "" || ratio.Cmp(worst.Ratio) < 0 {
			worst = m
		}
	}
	return best, worst, nil
}
