// Package timeline returns how a portfolio's value moved, one point an interval.
//
// It promises:
//   - Days, weeks and months begin and end at midnight of the requested time zone,
//     also when its clocks change; see Boundaries.
//   - When there are more points than the limit, the newest are returned.
//   - With a largest number of points, consecutive intervals are joined, the same number
//     each; a point has the extremes of all that it joins.
//   - An interval without a snapshot has the last known value, and says so. There is
//     no point before the first snapshot.
//   - A snapshot with a price gap is in none of the values, and is counted. Its total lacks a token, or a wallet, that
//     the snapshots before and after it have.
//
// A snapshot belongs to the interval that its hour begins in. Hours are those of
// UTC: a zone whose offset is not whole hours doesn't shift them.
package timeline

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/timerange"
	"github.com/purserhq/purser/services/portfolio/internal/currency"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// Interval is the width of a point.
type Interval int

// The intervals.
const (
	Hourly Interval = iota + 1
	Daily
	Weekly  // from Monday to Sunday, ISO 8601
	Monthly // calendar months
)

// Limits and defaults of a request.
const (
	DefaultRange  = 30 * 24 * time.Hour
	maxRangeYears = 5
	DefaultLimit  = 1000
	MaxLimit      = 5000
)

// Request is which points to return.
type Request struct {
	Interval Interval // Daily when 0
	// Start is DefaultRange before End when zero, End is now when zero.
	Start, End time.Time
	Zone       string // IANA name, UTC when empty
	Limit      int    // DefaultLimit when 0
	// MaxPoints, when not 0, has consecutive intervals joined until there are at most so
	// many points. Limit has to be 0 then: no point is left out.
	MaxPoints int
	Currency  string // of the values; USD when empty
}

// Point is the value within one interval.
type Point struct {
	Start, End time.Time // End is exclusive
	// Open and Close are the first and the last total, decimal numbers.
	Open, Close, Min, Max string
	// Assets and Liabilities are those of Close, which is the one less the other; Collateral is the part of Assets
	// that secures debts.
	Assets, Liabilities, Collateral string
	Snapshots                       int
	// LeftOut is how many of the snapshots have a price gap, or an hour without a rate of
	// the currency.
	LeftOut int
	// CarriedForward when there is no snapshot but those that are left out: the values
	// are the last known ones.
	CarriedForward bool
	// Complete when all snapshots are, or the one that was carried forward.
	Complete bool
	// OutOfDate is how many of the snapshots, or of the one that was carried forward, are
	// of other wallets than the portfolio has then.
	OutOfDate int
	// NetFlow is the sum of the net flows of the snapshots; "" when none has one.
	NetFlow string
}

// Aggregate sums up the snapshots of one interval.
type Aggregate struct {
	Index int // of the interval
	// Open, Close, Min and Max are "" if all snapshots are left out.
	Open, Close, Min, Max string
	// Assets, Liabilities and Collateral are those of Close.
	Assets, Liabilities, Collateral string
	Snapshots, LeftOut              int
	Complete                        bool
	OutOfDate                       int    // how many snapshots are
	NetFlow                         string // "" when no snapshot has one
}

// Value is the total of a snapshot in US dollars, and whether it is complete.
type Value struct {
	Total, Assets, Liabilities, Collateral string
	Complete                               bool
	OutOfDate                              bool
	Hour                                   time.Time
}

// Aggregates sum up the snapshots of consecutive intervals.
type Aggregates struct {
	// Intervals in order, without those that have no snapshot.
	Intervals []Aggregate
	// Before is the newest snapshot before the first interval, without a price gap; nil
	// when there is none.
	Before *Value
}

// Store aggregates snapshots.
type Store interface {
	// Aggregate sums up the snapshots within each interval [bounds[i], bounds[i+1]), with
	// the values of the intervals in a currency, at the stored rates of their hours. Other
	// callers may get the same Aggregates: they must not be changed.
	Aggregate(ctx context.Context, p portfolio.Portfolio, bounds []time.Time, currency string) (Aggregates, error)
	// FirstSnapshot returns the hour of the first snapshot at or after a time; zero when
	// there is none.
	FirstSnapshot(ctx context.Context, portfolio uuid.UUID, from time.Time) (time.Time, error)
}

// Rates are those of currencies and tokens; *currency.Service implements it.
type Rates interface {
	// Read has the rates of the hours in a range stored, as far as there is time. It
	// returns errs.Invalid on currency for what is none.
	Read(ctx context.Context, currency string, from, until time.Time) error
	// At returns the rates of the hours that these times are in; errs.Unavailable
	// (RATE_UNAVAILABLE).
	At(ctx context.Context, currency string, times ...time.Time) ([]currency.Rate, error)
}

// Service returns timelines. It is safe for concurrent use.
type Service struct {
	store Store
	rates Rates
	now   func() time.Time
}

// NewService returns the service.
func NewService(s Store, r Rates, now func() time.Time) *Service {
	return &Service{store: s, rates: r, now: now}
}

// Timeline is the value of a portfolio over time.
type Timeline struct {
	Points []Point // oldest first
	// Truncated when older points were left out because of the limit.
	Truncated bool
	// Joined is how many intervals each point covers, but for the first and the last one,
	// which may cover fewer.
	Joined int
}

// Points returns the timeline of a portfolio. It returns errs.Invalid for a request that
// breaks a rule.
func (s *Service) Points(ctx context.Context, p portfolio.Portfolio, r Request) (Timeline, error) {
	r, zone, err := s.withDefaults(r)
	if err != nil {
		return Timeline{}, err
	}
	bounds, truncated := Boundaries(r.Interval, zone, r.Start, r.End, r.Limit)
	t := Timeline{Truncated: truncated, Joined: 1}
	if r.MaxPoints != 0 {
		bounds, t.Joined = join(bounds, r.Interval, zone, r.MaxPoints)
	}
	a, err := s.aggregate(ctx, p, bounds, r.Currency)
	if err != nil {
		return Timeline{}, err
	}
	t.Points = a.points(bounds)
	return t, nil
}

// aggregate reads the rates that are missing before, and converts the value before the
// first interval at the rate of its own hour. Without that rate there is no such value.
func (s *Service) aggregate(ctx context.Context, p portfolio.Portfolio, bounds []time.Time,
	code string) (Aggregates, error) {
	if currency.IsUSD(code) {
		return s.store.Aggregate(ctx, p, bounds, code)
	}
	first, err := s.store.FirstSnapshot(ctx, p.ID, bounds[0])
	if err != nil {
		return Aggregates{}, err
	}
	if !first.IsZero() {
		if err := s.rates.Read(ctx, code, first, bounds[len(bounds)-1]); err != nil {
			return Aggregates{}, err
		}
	}
	a, err := s.store.Aggregate(ctx, p, bounds, code)
	if err != nil || a.Before == nil {
		return a, err
	}
	rates, err := s.rates.At(ctx, code, a.Before.Hour)
	switch {
	case errs.Is(err, errs.KindUnavailable):
		a.Before = nil
	case err != nil:
		return Aggregates{}, err
	default:
		if err := a.Before.convert(rates[0]); err != nil {
			return Aggregates{}, errs.Internal(err)
		}
	}
	return a, nil
}

// convert converts the value to a rate's currency.
func (v *Value) convert(r currency.Rate) error {
	for _, text := range []*string{&v.Total, &v.Liabilities, &v.Collateral} {
		dollars, _, err := apd.NewFromString(*text)
		if err != nil {
			return err
		}
		converted, err := r.Convert(dollars)
		if err != nil {
			return err
		}
		*text = converted.Text('f')
	}
	total, _, err := apd.NewFromString(v.Total)
	if err != nil {
		return err
	}
	liabilities, _, err := apd.NewFromString(v.Liabilities)
	if err != nil {
		return err
	}
	assets, err := valuation.Sum(total, liabilities)
	if err != nil {
		return err
	}
	v.Assets = assets.Text('f')
	return nil
}

// Check returns errs.Invalid with every mistake in a request.
func (s *Service) Check(r Request) error {
	_, _, err := s.withDefaults(r)
	return err
}

// points carries the last known value forward into intervals without a snapshot.
func (a Aggregates) points(bounds []time.Time) []Point {
	points := make([]Point, 0, len(bounds)-1)
	intervals, last := a.Intervals, a.Before
	for i := range len(bounds) - 1 {
		p := Point{Start: bounds[i], End: bounds[i+1]}
		var in Aggregate
		if len(intervals) > 0 && intervals[0].Index == i {
			in, intervals = intervals[0], intervals[1:]
		}
		p.Snapshots, p.LeftOut, p.NetFlow = in.Snapshots, in.LeftOut, in.NetFlow
		switch {
		case in.Snapshots > in.LeftOut:
			p.Open, p.Close, p.Min, p.Max = in.Open, in.Close, in.Min, in.Max
			p.Assets, p.Liabilities, p.Collateral = in.Assets, in.Liabilities, in.Collateral
			p.Complete, p.OutOfDate = in.Complete, in.OutOfDate
			last = &Value{Total: in.Close, Assets: in.Assets, Liabilities: in.Liabilities,
				Collateral: in.Collateral, Complete: in.Complete, OutOfDate: in.OutOfDate > 0}
		case last != nil:
			p.Open, p.Close, p.Min, p.Max = last.Total, last.Total, last.Total, last.Total
			p.Assets, p.Liabilities, p.Collateral = last.Assets, last.Liabilities, last.Collateral
			p.CarriedForward, p.Complete, p.OutOfDate = true, last.Complete && in.LeftOut == 0, in.OutOfDate
			if last.OutOfDate {
				p.OutOfDate = max(1, p.OutOfDate)
			}
		default:
			continue
		}
		points = append(points, p)
	}
	return points
}

// withDefaults sets what a request leaves out, and checks it.
func (s *Service) withDefaults(r Request) (Request, *time.Location, error) {
	now := s.now()
	if r.End.IsZero() {
		r.End = now
	}
	if r.Start.IsZero() {
		r.Start = r.End.Add(-DefaultRange)
	}
	rules := timerange.Rules{Now: now, Skew: timerange.ClockSkew, MaxYears: maxRangeYears}
	rangeErr := (timerange.Range{Start: r.Start, End: r.End}).Check(rules)
	if r.Interval == 0 {
		r.Interval = Daily
	}
	var limitErr error
	switch {
	case r.MaxPoints != 0 && r.Limit != 0:
		limitErr = errs.Invalid("limit", "must be 0 where max_points is given, "+errs.Given(strconv.Itoa(r.Limit)))
	case r.MaxPoints != 0:
		r.Limit = maxRangeYears * 366 * 24
	case r.Limit == 0:
		r.Limit = DefaultLimit
	}
	zone, zoneErr := Zone(r.Zone)
	return r, zone, errs.AllInvalid(rangeErr, limitErr, zoneErr, currency.Check("currency", r.Currency))
}

// Zone returns the time zone of this IANA name, UTC for "". An unknown one is
// errs.Invalid on time_zone.
func Zone(name string) (*time.Location, error) {
	zone, err := time.LoadLocation(name)
	if err != nil || strings.EqualFold(name, "local") { // the server's own zone
		return nil, errs.Invalid("time_zone", `must be a name of the IANA time zone database, for example `+
			`"Europe/Zurich", `+
			"or empty for UTC, "+errs.Given(name))
	}
	return zone, nil
}
