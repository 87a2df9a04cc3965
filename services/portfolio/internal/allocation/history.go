package allocation

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/timerange"
	"github.com/purserhq/purser/services/portfolio/internal/currency"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/timeline"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// Limits and defaults of a history.
const (
	maxRangeYears  = 10
	DefaultLimit   = 100
	MaxLimit       = 400
	DefaultEntries = 10
	// maxPositions is how many positions the points of one answer have together.
	maxPositions = 200_000
)

// HistoryRequest is how to divide which values.
type HistoryRequest struct {
	Dimension  Dimension         // Token, Chain or Protocol; Token when 0
	Interval   timeline.Interval // Daily when 0
	Start, End time.Time         // timeline.DefaultRange before End when zero; now when zero
	Zone       string            // IANA name, UTC when empty
	MaxEntries int               // DefaultEntries when 0
	Limit      int               // DefaultLimit when 0
	Currency   string            // of the values; USD when empty
}

// Last is the last snapshot of an interval.
type Last struct {
	Index     int // of the interval
	Bucket    time.Time
	Complete  bool
	Positions int
}

// Store reads snapshots.
type Store interface {
	// LastOfIntervals returns the last snapshot without a price gap of each interval [bounds[i], bounds[i+1]) that
	// has one, in order.
	LastOfIntervals(ctx context.Context, portfolio uuid.UUID, bounds []time.Time) ([]Last, error)
	// PositionsAt returns the valued positions of the snapshots of some hours.
	PositionsAt(ctx context.Context, portfolio uuid.UUID, buckets []time.Time) (map[time.Time][]valuation.Position,
		error)
}

// Point is the last snapshot of an interval.
type Point struct {
	Start, End, Snapshot time.Time
	// Total is Assets less Liabilities; all are nil when Unavailable is set.
	Total, Assets, Liabilities *apd.Decimal
	Complete                   bool
	Unavailable                string // why there are no values
}

// Series is an entry over time, with a value and a share for each point.
type Series struct {
	Key, Label string
	Other      bool
	Values     []*apd.Decimal // nil where the point has no values
	Shares     []*apd.Decimal // of the assets; nil where these are 0 or unavailable
}

// History is an allocation over time.
type History struct {
	Points    []Point
	Series    []Series
	Truncated bool
}

// CheckHistory returns errs.Invalid with every mistake in a request.
func (s *Service) CheckHistory(r HistoryRequest) error {
	_, _, err := s.withDefaults(r)
	return err
}

// History divides the values at the ends of intervals, with two statements, in another currency than US dollars with
// those that read rates besides.
func (s *Service) History(ctx context.Context, p portfolio.Portfolio, r HistoryRequest) (History, error) {
	r, zone, err := s.withDefaults(r)
	if err != nil {
		return History{}, err
	}
	bounds, truncated := timeline.Boundaries(r.Interval, zone, r.Start, r.End, r.Limit)
	last, err := s.store.LastOfIntervals(ctx, p.ID, bounds)
	if err != nil {
		return History{}, err
	}
	buckets, positions := make([]time.Time, len(last)), 0
	for i, l := range last {
		buckets[i], positions = l.Bucket, positions+l.Positions
	}
	if positions > maxPositions {
		return History{}, errs.Exhausted("TOO_MANY_POSITIONS", fmt.Sprintf("the %d points have %d positions "+
			"together, more than the %d of one answer: ask for fewer points", len(last), positions, maxPositions))
	}
	held, err := s.store.PositionsAt(ctx, p.ID, buckets)
	if err != nil {
		return History{}, err
	}
	rates, err := s.rates.Known(ctx, r.Currency, buckets...)
	if err != nil {
		return History{}, err
	}
	h := History{Truncated: truncated}
	allocations := make([]Allocation, len(last))
	for i, l := range last {
		point := Point{Start: bounds[l.Index], End: bounds[l.Index+1], Snapshot: l.Bucket, Complete: l.Complete}
		if rates[i].Known() {
			if allocations[i], err = allocated(held[l.Bucket], r.Dimension, rates[i]); err != nil {
				return History{}, err
			}
			a := allocations[i]
			point.Total, point.Assets, point.Liabilities = a.Total, a.Assets, a.Liabilities
			point.Complete = l.Complete && !rates[i].Stale
		} else {
			point.Complete, point.Unavailable = false, currency.ReasonUnavailable
		}
		h.Points = append(h.Points, point)
	}
	h.Series, err = seriesOf(allocations, r.MaxEntries)
	return h, err
}

// allocated divides the positions of an hour, at its rate.
func allocated(positions []valuation.Position, d Dimension, rate currency.Rate) (Allocation, error) {
	v, err := valuation.SumOf(positions)
	if err != nil {
		return Allocation{}, errs.Internal(err)
	}
	v, err = rate.Valuation(v)
	if err != nil {
		return Allocation{}, errs.Internal(err)
	}
	of := divided{dimension: d}
	of.add(v.Positions, "")
	return of.result(valuation.Valuation{}, 0)
}

// seriesOf turns allocations over time, of which those without a total are unavailable, into series of the entries
// with the largest sums, and one of the others.
func seriesOf(allocations []Allocation, maxEntries int) ([]Series, error) {
	type sum struct {
		Series
		sum *apd.Decimal
	}
	index := map[string]*sum{}
	var all []*sum
	zero := new(apd.Decimal)
	for i, a := range allocations {
		for _, e := range a.Entries {
			s := index[e.Key]
			if s == nil {
				s = &sum{Series: Series{Key: e.Key, Values: slices.Repeat([]*apd.Decimal{zero}, len(allocations))},
					sum: zero}
				index[e.Key], all = s, append(all, s)
			}
			s.Label, s.Values[i] = e.Label, e.Value // the newest name
			var err error
			if s.sum, err = valuation.Sum(s.sum, e.Value); err != nil {
				return nil, errs.Internal(err)
			}
		}
	}
	slices.SortFunc(all, func(a, b *sum) int { return cmp.Or(b.sum.Cmp(a.sum), cmp.Compare(a.Key, b.Key)) })
	var out []Series
	rest := Series{Label: other, Other: true, Values: slices.Repeat([]*apd.Decimal{zero}, len(allocations))}
	for n, s := range all {
		if n < maxEntries {
			out = append(out, s.Series)
			continue
		}
		for i, v := range s.Values {
			var err error
			if rest.Values[i], err = valuation.Sum(rest.Values[i], v); err != nil {
				return nil, errs.Internal(err)
			}
		}
	}
	if len(all) > maxEntries {
		out = append(out, rest)
	}
	for i, a := range allocations {
		if a.Total == nil { // unavailable
			for n := range out {
				out[n].Values[i], out[n].Shares = nil, append(out[n].Shares, nil)
			}
			continue
		}
		values := make([]*apd.Decimal, len(out))
		for n := range out {
			values[n] = out[n].Values[i]
		}
		of := Shares(values)
		for n := range out {
			var share *apd.Decimal
			if of != nil {
				share = of[n]
			}
			out[n].Shares = append(out[n].Shares, share)
		}
	}
	return out, nil
}

// withDefaults sets what a request leaves out, and checks it.
func (s *Service) withDefaults(r HistoryRequest) (HistoryRequest, *time.Location, error) {
	now := s.now()
	if r.End.IsZero() {
		r.End = now
	}
	if r.Start.IsZero() {
		r.Start = r.End.Add(-timeline.DefaultRange)
	}
	rules := timerange.Rules{Now: now, Skew: timerange.ClockSkew, MaxYears: maxRangeYears}
	rangeErr := (timerange.Range{Start: r.Start, End: r.End}).Check(rules)
	r.Interval = cmp.Or(r.Interval, timeline.Daily)
	r.Limit = cmp.Or(r.Limit, DefaultLimit)
	r.MaxEntries = cmp.Or(r.MaxEntries, DefaultEntries)
	zone, zoneErr := timeline.Zone(r.Zone)
	var dimensionErr error
	if r.Dimension == Wallet {
		dimensionErr = errs.Invalid("dimension", "must be ALLOCATION_DIMENSION_TOKEN, ALLOCATION_DIMENSION_CHAIN or "+
			"ALLOCATION_DIMENSION_PROTOCOL: the past is stored for the portfolio as a whole, got "+
			"ALLOCATION_DIMENSION_WALLET")
	}
	return r, zone, errs.AllInvalid(rangeErr, zoneErr, dimensionErr, currency.Check("currency", r.Currency))
}
