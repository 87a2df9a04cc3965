package console

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
)

// growth is the data of the section "growth": what 100 became, without flows, beside a token, and the fall from the
// highest.
type growth struct {
	// Benchmark is the symbol of the token that the portfolio is compared with; "" for none.
	Benchmark     string
	Hourly, Daily []growthPoint
}

// growthPoint is where the portfolio stood at the end of an interval.
type growthPoint struct {
	// Time of the snapshot, or of the interval's start without one; Start is the latter.
	Time, Start          time.Time
	Own, Other, Drawdown amount
	// Begin is true for the one that the others are measured from.
	Begin bool
}

// amount is a number that is drawn and shown, or why there is none.
type amount struct {
	figure
	// Number is nil if there is none.
	Number *float64
}

// DailyNewestFirst returns the points of days in reverse order.
func (g growth) DailyNewestFirst() []growthPoint {
	points := slices.DeleteFunc(slices.Clone(g.Daily), func(p growthPoint) bool { return p.Begin })
	slices.Reverse(points)
	return points
}

// benchmarkOf returns the id and the symbol of the largest position, "" when there is none.
func benchmarkOf(ctx context.Context, client portfoliov1.PortfolioServiceClient, currency string) (id, symbol string,
	err error) {
	valued, err := client.GetValuation(ctx, &portfoliov1.GetValuationRequest{Currency: currency})
	if err != nil {
		return "", "", err
	}
	if positions := valued.GetValuation().GetPositions(); len(positions) > 0 && positions[0].GetValue() != "" {
		return positions[0].GetTokenId(), positions[0].GetSymbol(), nil
	}
	return "", "", nil
}

// growth measures the portfolio over the ranges of the charts, beside its largest position.
func (s *services) growth(ctx context.Context, currency string) (any, error) {
	client := portfoliov1.NewPortfolioServiceClient(s.portfolio)
	benchmark, symbol, err := benchmarkOf(ctx, client, currency)
	if err != nil {
		return nil, err
	}
	g := growth{Benchmark: symbol}
	now := time.Now()
	for _, series := range []struct {
		interval portfoliov1.Interval
		length   time.Duration
		points   *[]growthPoint
	}{{portfoliov1.Interval_INTERVAL_HOURLY, hourlyRange, &g.Hourly},
		{portfoliov1.Interval_INTERVAL_DAILY, dailyRange, &g.Daily}} {
		resp, err := client.GetPerformance(ctx, &portfoliov1.GetPerformanceRequest{
			StartTime: timestamppb.New(now.Add(-series.length)), EndTime: timestamppb.New(now), Currency: currency,
			Benchmark: benchmark, GrowthInterval: series.interval})
		if err != nil {
			return nil, err
		}
		*series.points = growthPoints(resp.GetPerformance())
	}
	return g, nil
}

// growthPoints returns the points of a performance after the one that it begins with.
func growthPoints(p *portfoliov1.Performance) []growthPoint {
	var points []growthPoint
	begin := moment(p.GetStartTime())
	if len(p.GetGrowth()) > 0 && !moment(p.GetGrowth()[0].GetSnapshotTime()).Equal(begin) {
		none := 0.0
		first := growthPoint{Begin: true, Time: begin, Start: begin, Own: hundred(0),
			Drawdown: amount{percent(none), &none}}
		if p.GetBenchmark().GetTokenReturn().GetUnavailableReason() == "" {
			first.Other = hundred(0)
		}
		points = append(points, first)
	}
	for _, of := range p.GetGrowth() {
		point := growthPoint{Time: moment(of.GetSnapshotTime()), Start: moment(of.GetStartTime()),
			Own: grownTo(of.GetTimeWeighted()), Other: grownTo(of.GetBenchmark())}
		if point.Time.IsZero() {
			point.Time = later(point.Start, begin)
		}
		point.Drawdown.figure = percentOf(of.GetDrawdown())
		if d := of.GetDrawdown(); d != nil && d.Value != nil {
			point.Drawdown = amount{percent(100 * d.GetValue()), new(float64)}
			*point.Drawdown.Number = 100 * d.GetValue()
		}
		points = append(points, point)
	}
	return points
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// grownTo returns what 100 became.
func grownTo(r *portfoliov1.Ratio) amount {
	if r == nil || r.Value == nil {
		return amount{figure: figure{Missing: missing(r)}}
	}
	return hundred(r.GetValue())
}

// hundred returns what 100 became with a return.
func hundred(of float64) amount {
	number := 100 * (1 + of)
	return amount{figure{Text: fmt.Sprintf("%.2f", number)}, &number}
}

// percent has two places.
func percent(f float64) figure { return figure{Text: signed(f) + " %"} }

// text is the figure, or why there is none.
func (f figure) text() string {
	if f.Text == "" {
		return "none (" + f.Missing + ")"
	}
	return f.Text
}

// growthRows returns the points of the charts of growth and of drawdown.
func growthRows(points []growthPoint, benchmark string) (grown, fallen []row) {
	for _, p := range points {
		at := row{Time: p.Time.Unix(), Label: p.Start.Unix()}
		own, fall := at, at
		own.Values, own.Text = []any{p.Own.Number}, "portfolio "+p.Own.text()
		if benchmark != "" {
			own.Values, own.Text = append(own.Values, p.Other.Number), own.Text+", "+benchmark+" "+p.Other.text()
		}
		fall.Values, fall.Text = []any{p.Drawdown.Number}, p.Drawdown.text()
		grown, fallen = append(grown, own), append(fallen, fall)
	}
	return grown, fallen
}
