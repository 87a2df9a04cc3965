package performance

import (
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
)

const (
	// maxRangeYears is the longest period that can be measured.
	maxRangeYears = 10
	// maxPoints is how many points of growth one answer has at most.
	maxPoints = 5000
)

// ReasonNoSnapshots is the reason of all figures of a period without a snapshot at or
// before its end.
const ReasonNoSnapshots Reason = "NO_SNAPSHOTS"

// Request is which period to measure.
type Request struct {
	// Start is timeline.DefaultRange before End when zero, End is now when zero.
	Start, End time.Time
	Zone       string // IANA name, UTC when empty
	Benchmark  string // CAIP-19 id of a token; empty for none
	RiskFree   float64
	Currency   string            // of the figures; USD when empty
	Interval   timeline.Interval // of the points of growth; 0 for none
}

// Series is what snapshots say about a period.
type Series struct {
	// Marks as Input wants them; empty without snapshots.
	Marks []Mark
	// StartComplete and EndComplete: the first and the last are complete snapshots.
	StartComplete, EndComplete bool
	// LeftOut is how many snapshots of the period aren't measurable.
	LeftOut int
	// OutOfDate is how many of Marks are of other wallets than the portfolio has then.
	OutOfDate int
}

// Store reads snapshots.
type Store interface {
	// Marks returns the measurable snapshots that a performance from start to end needs,
	// among them the last one between each two consecutive days.
	Marks(ctx context.Context, portfolio uuid.UUID, start, end time.Time, days []time.Time) (Series, error)
	// Prices returns the prices of a token in the snapshots of some hours, without those that have none.
	Prices(ctx context.Context, portfolio uuid.UUID, tokenID string, buckets []time.Time) (map[time.Time]*apd.Decimal,
		error)
}

// Rates are those of currencies and tokens; *currency.Service implements it.
type Rates interface {
	// At returns the rates of the hours that these times are in, which are in order. It returns errs.Invalid on
	// currency for what is none, errs.Unavailable (RATE_UNAVAILABLE).
	At(ctx context.Context, currency string, times ...time.Time) ([]currency.Rate, error)
	// Known is At, but returns rates that are not known too.
	Known(ctx context.Context, currency string, times ...time.Time) ([]currency.Rate, error)
}

// Measured is the performance of a stored portfolio.
type Measured struct {
	Performance
	// LeftOut is how many snapshots don't count.
	LeftOut int
	// OutOfDate is how many of the snapshots that the figures rest on are of other wallets
	// than the portfolio has then.
	OutOfDate int
	// Notes are what a reader of the figures has to know.
	Notes []string
	// Points are the growth over time, if it was asked for.
	Points []Point
}

// Service measures portfolios. It is safe for concurrent use.
type Service struct {
	store Store
	rates Rates
	now   func() time.Time
}

// NewService returns the service.
func NewService(s Store, r Rates, now func() time.Time) *Service {
	return &Service{store: s, rates: r, now: now}
}

// Check returns errs.Invalid with every mistake in a request.
func (s *Service) Check(r Request) error {
	_, _, err := s.withDefaults(r)
	return err
}

// Measure returns the performance of a portfolio. It returns errs.Invalid for a request
// that breaks a rule.
func (s *Service) Measure(ctx context.Context, p portfolio.Portfolio, r Request) (Measured, error) {
	r, zone, err := s.withDefaults(r)
	if err != nil {
		return Measured{}, err
	}
	limits := dayLimits(zone, r.Start, r.End)
	series, err := s.store.Marks(ctx, p.ID, r.Start, r.End, limits)
	if err != nil {
		return Measured{}, err
	}
	if len(series.Marks) == 0 {
		return Measured{Performance: withoutSnapshots(r.Benchmark != ""), LeftOut: series.LeftOut,
			Notes: append(r.notes(series, Performance{}), "there is no snapshot to measure")}, nil
	}
	rates, err := s.convert(ctx, series.Marks, r.Currency)
	if err != nil {
		return Measured{}, err
	}
	in := Input{Marks: series.Marks, RiskFree: r.RiskFree}
	if len(limits) > 1 {
		in.DayBefore, in.Days = limits[0], limits[1:]
	}
	if r.Benchmark != "" {
		last := len(rates) - 1 // each end by itself, so that no rates between them are read
		start, err := s.benchmark(ctx, p, r.Benchmark, series.Marks[:1], rates[:1])
		if err != nil {
			return Measured{}, err
		}
		end, err := s.benchmark(ctx, p, r.Benchmark, series.Marks[last:], rates[last:])
		if err != nil {
			return Measured{}, err
		}
		in.Benchmark = &Reference{Start: start[0], End: end[0]}
	}
	measured, err := Measure(in)
	if err != nil {
		return Measured{}, errs.Internal(err)
	}
	m := Measured{Performance: measured, LeftOut: series.LeftOut, OutOfDate: series.OutOfDate,
		Notes: r.notes(series, measured)}
	m.Points, err = s.points(ctx, p, r, zone, series.Marks, rates)
	return m, err
}

// points returns the growth over time. Intervals of whole days end at marks that the figures rest on; for hours it
// reads more.
func (s *Service) points(ctx context.Context, p portfolio.Portfolio, r Request, zone *time.Location, marks []Mark,
	rates []currency.Rate) ([]Point, error) {
	if r.Interval == 0 {
		return nil, nil
	}
	bounds, _ := timeline.Boundaries(r.Interval, zone, r.Start, r.End, maxPoints)
	if r.Interval == timeline.Hourly {
		limits := append(slices.Clone(bounds[:len(bounds)-1]), r.End) // the last hour may end later
		series, err := s.store.Marks(ctx, p.ID, r.Start, r.End, limits)
		if err != nil {
			return nil, err
		}
		if marks = series.Marks; len(marks) == 0 {
			return nil, nil
		}
		if rates, err = s.convert(ctx, marks, r.Currency); err != nil {
			return nil, err
		}
	}
	var prices []*apd.Decimal
	if r.Benchmark != "" {
		var err error
		if prices, err = s.benchmark(ctx, p, r.Benchmark, marks, rates); err != nil {
			return nil, err
		}
	}
	points, err := OverTime(marks, bounds, prices)
	if err != nil {
		return nil, errs.Internal(err)
	}
	return points, nil
}

// convert puts marks into a currency, at the rates of their hours, which it returns.
func (s *Service) convert(ctx context.Context, marks []Mark, code string) ([]currency.Rate, error) {
	times := make([]time.Time, len(marks))
	for i, m := range marks {
		times[i] = m.Time
	}
	rates, err := s.rates.At(ctx, code, times...)
	if err != nil {
		return nil, err
	}
	for i := range marks {
		marks[i].Dollars = marks[i].Value
		if marks[i].Value, err = rates[i].Convert(marks[i].Value); err != nil {
			return nil, errs.Internal(err)
		}
		if marks[i].NetFlow, err = rates[i].Convert(marks[i].NetFlow); err != nil {
			return nil, errs.Internal(err)
		}
	}
	return rates, nil
}

// benchmark returns the prices of a token at the times of marks, in the currency of their rates: those of the hours'
// snapshots, or those that the wallet service knows; nil where there is none.
func (s *Service) benchmark(ctx context.Context, p portfolio.Portfolio, token string, marks []Mark,
	rates []currency.Rate) ([]*apd.Decimal, error) {
	times := make([]time.Time, len(marks))
	for i, m := range marks {
		times[i] = m.Time
	}
	held, err := s.store.Prices(ctx, p.ID, token, times)
	if err != nil {
		return nil, err
	}
	missing := slices.DeleteFunc(times, func(t time.Time) bool { return held[t] != nil })
	if len(missing) > 0 {
		known, err := s.rates.Known(ctx, token, missing...)
		if noRate(err) != nil {
			return nil, err
		}
		for i, k := range known {
			if !k.Known() {
				continue
			}
			if held[missing[i]], _, err = apd.NewFromString(k.Price); err != nil {
				return nil, errs.Internal(err)
			}
		}
	}
	prices := make([]*apd.Decimal, len(marks))
	for i, m := range marks {
		if held[m.Time] == nil {
			continue
		}
		if prices[i], err = rates[i].ConvertPrice(held[m.Time]); err != nil {
			return nil, errs.Internal(err)
		}
	}
	return prices, nil
}

// noRate returns nil for a token without a price, and for one that isn't known: a comparison with it is unavailable.
func noRate(err error) error {
	if errs.Is(err, errs.KindUnavailable) || errs.Is(err, errs.KindInvalid) {
		return nil
	}
	return err
}

// dayLimits returns the starts of the days from start to end, both included, after the
// start of the day before the first.
func dayLimits(zone *time.Location, start, end time.Time) []time.Time {
	limits, _ := timeline.Boundaries(timeline.Daily, zone, start.Add(-time.Nanosecond), end, 1<<20)
	if last := len(limits) - 1; limits[last].After(end) {
		limits = limits[:last]
	}
	return limits
}

// notes says what the figures don't.
func (r Request) notes(s Series, p Performance) []string {
	notes := []string{"flows are changes of amounts between snapshots: interest and rewards that arrive in wallets " +
		"count as money that came in, fees as money that went out"}
	note := func(when bool, format string, args ...any) {
		if when {
			notes = append(notes, fmt.Sprintf(format, args...))
		}
	}
	known := len(s.Marks) > 0
	text := func(t time.Time) string { return t.Format(time.RFC3339) }
	note(known && p.Start.After(r.Start), "the first snapshot is that of %s, after start_time", text(p.Start))
	note(known && r.Start.Sub(p.Start) > time.Hour, "the value at start_time is that of %s", text(p.Start))
	note(known && r.End.Sub(p.End) > 2*time.Hour, "the value at end_time is that of %s", text(p.End))
	note(known && !s.StartComplete, "the snapshot at the start is incomplete")
	note(known && !s.EndComplete, "the snapshot at the end is incomplete")
	note(s.LeftOut > 0, "snapshots left out because a wallet or the prices could not be read, or a token had no "+
		"price for some hours: %d", s.LeftOut)
	note(s.OutOfDate > 0, "snapshots out of date because the wallets of the portfolio changed since, or a chain "+
		"replaced blocks, which RecomputeSnapshots takes again: %d", s.OutOfDate)
	note(p.Skipped > 0, "sub-periods skipped because they began with less than %s: %d", Epsilon, p.Skipped)
	return notes
}

// withoutSnapshots is a performance without any figure.
func withoutSnapshots(benchmark bool) Performance {
	none, zero := Ratio{Unavailable: ReasonNoSnapshots}, new(apd.Decimal)
	p := Performance{
		StartValue: zero, EndValue: zero, Inflow: zero, Outflow: zero, Gain: zero,
		TimeWeighted: unavailable(ReasonNoSnapshots), MoneyWeighted: unavailable(ReasonNoSnapshots),
		ModifiedDietz: none, Drawdown: Drawdown{Depth: none},
		Risk: Risk{Volatility: none, DownsideDeviation: none, Sharpe: none, Sortino: none, Calmar: none},
	}
	if benchmark {
		p.Benchmark = &Comparison{Return: none, Difference: none}
	}
	return p
}

// withDefaults sets what a request leaves out, and checks it.
func (s *Service) withDefaults(r Request) (Request, *time.Location, error) {
	now := s.now()
	if r.End.IsZero() {
		r.End = now
	}
	if r.Start.IsZero() {
		r.Start = r.End.Add(-timeline.DefaultRange)
	}
	rules := timerange.Rules{Now: now, Skew: timerange.ClockSkew, MaxYears: maxRangeYears}
	rangeErr := (timerange.Range{Start: r.Start, End: r.End}).Check(rules)
	zone, zoneErr := timeline.Zone(r.Zone)
	var benchmarkErr error
	if r.Benchmark != "" && !currency.IsTokenID(r.Benchmark) {
		benchmarkErr = errs.Invalid("benchmark", `must be the CAIP-19 id of a token, for example `+
			`"eip155:1/slip44:60", or empty for none, `+errs.Given(r.Benchmark))
	}
	err := errs.AllInvalid(rangeErr, zoneErr, benchmarkErr, currency.Check("currency", r.Currency))
	if err == nil && r.Interval != 0 {
		if _, more := timeline.Boundaries(r.Interval, zone, r.Start, r.End, maxPoints); more {
			err = errs.Invalid("growth_interval", fmt.Sprintf("must be INTERVAL_DAILY or longer for a period of more "+
				"than %d hours, got INTERVAL_HOURLY", maxPoints))
		}
	}
	return r, zone, err
}
