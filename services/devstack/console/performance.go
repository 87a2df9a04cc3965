package console

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
)

// performanceAge is how many times as old as other panels the performance may be.
const performanceAge = 10

// performance is the data of the section "performance".
type performance struct {
	// Benchmark is the symbol of the token that the portfolio is compared with; "" for none.
	Benchmark string
	Periods   []performancePeriod
}

// performancePeriod is how well the portfolio did in a period.
type performancePeriod struct {
	Period string
	// From is the time of the first snapshot that counts.
	From                                                     time.Time
	TimeWeighted, MoneyWeighted, Volatility, Sharpe, Against figure
	Drawdown                                                 figure
	// Peak and Trough of the drawdown; zero without one.
	Peak, Trough time.Time
}

// figure is a rate in percent or a ratio, formatted.
type figure struct {
	Text string
	// Missing says why there is no figure.
	Missing string
}

// performance measures the portfolio over several periods, beside its largest position.
func (s *services) performance(ctx context.Context, currency string) (any, error) {
	client := portfoliov1.NewPortfolioServiceClient(s.portfolio)
	benchmark, symbol, err := benchmarkOf(ctx, client, currency)
	if err != nil {
		return nil, err
	}
	p := performance{Benchmark: symbol}
	now := time.Now()
	for _, of := range []struct {
		name string
		from time.Time
	}{{"7 days", now.Add(-7 * day)}, {"30 days", now.Add(-30 * day)}, {"90 days", now.Add(-90 * day)},
		{"1 year", now.AddDate(-1, 0, 0)}} {
		resp, err := client.GetPerformance(ctx, &portfoliov1.GetPerformanceRequest{
			StartTime: timestamppb.New(of.from), EndTime: timestamppb.New(now), Benchmark: benchmark,
			Currency: currency})
		if err != nil {
			return nil, err
		}
		m := resp.GetPerformance()
		if m.GetStartTime() == nil {
			continue // there is no snapshot
		}
		p.Periods = append(p.Periods, performancePeriod{Period: of.name, From: moment(m.GetStartTime()),
			TimeWeighted:  percentOf(m.GetTimeWeighted().GetPeriod()),
			MoneyWeighted: percentOf(m.GetMoneyWeighted().GetPeriod()),
			Volatility:    percentOf(m.GetVolatility()), Sharpe: ratioOf(m.GetSharpe()),
			Against:  percentOf(m.GetBenchmark().GetTrackingDifference()),
			Drawdown: percentOf(m.GetMaxDrawdown().GetDepth()),
			Peak:     moment(m.GetMaxDrawdown().GetPeakTime()), Trough: moment(m.GetMaxDrawdown().GetTroughTime())})
	}
	return p, nil
}

// percentOf returns a fraction in percent, with its sign.
func percentOf(r *portfoliov1.Ratio) figure {
	if r == nil || r.Value == nil {
		return figure{Missing: missing(r)}
	}
	return percent(100 * r.GetValue())
}

func ratioOf(r *portfoliov1.Ratio) figure {
	if r == nil || r.Value == nil {
		return figure{Missing: missing(r)}
	}
	return figure{Text: signed(r.GetValue())}
}

// signed has two places, and a minus that is as wide as a plus.
func signed(f float64) string {
	text := fmt.Sprintf("%.2f", math.Abs(f))
	switch {
	case strings.Trim(text, "0.") == "":
		return text
	case f < 0:
		return "−" + text
	}
	return "+" + text
}

// missing says why a figure is unavailable.
func missing(r *portfoliov1.Ratio) string {
	return reason(r.GetUnavailableReason())
}

// reason returns a code as words.
func reason(code string) string { return strings.ToLower(strings.ReplaceAll(code, "_", " ")) }
