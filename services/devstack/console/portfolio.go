package console

import (
	"context"
	"encoding/json"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/devstack/demo"
)

const (
	day = 24 * time.Hour
	// hourlyRange and dailyRange are how far back the value is shown.
	hourlyRange = 7 * day
	dailyRange  = 90 * day
)

// timeline is the data of the section "value".
type timeline struct {
	Currency      string
	Hourly, Daily []point
}

// point is the value at the end of an interval.
type point struct {
	Time           time.Time
	Value          string // decimal
	CarriedForward bool
}

// Newest returns the latest point; nil if there is none.
func (t timeline) Newest() *point {
	if len(t.Hourly) == 0 {
		return nil
	}
	return &t.Hourly[len(t.Hourly)-1]
}

// DailyNewestFirst returns the daily points in reverse order.
func (t timeline) DailyNewestFirst() []point {
	points := slices.Clone(t.Daily)
	slices.Reverse(points)
	return points
}

// Change returns the change in percent between the newest point and the first of points that is at most
// since older; "" if points do not reach back that far.
func (t timeline) Change(points []point, since time.Duration) string {
	newest := t.Newest()
	if newest == nil {
		return ""
	}
	for i, p := range points {
		if p.Time.Before(newest.Time.Add(-since)) {
			continue
		}
		if i == 0 && p.Time.Sub(newest.Time.Add(-since)) > since/4 {
			return "" // no point is close to the beginning of the period
		}
		return percent(p.Value, newest.Value)
	}
	return ""
}

// percent returns the change from one decimal to another, with two places; "" if from is not positive.
func percent(from, to string) string {
	a, ok := new(big.Rat).SetString(from)
	b, also := new(big.Rat).SetString(to)
	if !ok || !also || a.Sign() <= 0 {
		return ""
	}
	change := new(big.Rat).Sub(new(big.Rat).Quo(b, a), big.NewRat(1, 1))
	text := strings.TrimPrefix(change.Mul(change, big.NewRat(100, 1)).FloatString(2), "-")
	switch {
	case text == "0.00":
	case change.Sign() < 0:
		text = "−" + text
	default:
		text = "+" + text
	}
	return text + " %"
}

func (s *services) value(ctx context.Context) (any, error) {
	client := portfoliov1.NewPortfolioServiceClient(s.portfolio)
	var t timeline
	for _, series := range []struct {
		interval portfoliov1.Interval
		length   time.Duration
		points   *[]point
	}{{portfoliov1.Interval_INTERVAL_HOURLY, hourlyRange, &t.Hourly},
		{portfoliov1.Interval_INTERVAL_DAILY, dailyRange, &t.Daily}} {
		resp, err := client.GetTimeline(ctx, &portfoliov1.GetTimelineRequest{
			Interval: series.interval, StartTime: timestamppb.New(time.Now().Add(-series.length)),
		})
		if err != nil {
			return nil, err
		}
		t.Currency = resp.GetCurrency()
		for _, p := range resp.GetPoints() {
			*series.points = append(*series.points, point{Time: p.GetStartTime().AsTime(), Value: p.GetClose(),
				CarriedForward: p.GetCarriedForward()})
		}
	}
	return t, nil
}

// serveChart answers with the points of the chart, each as [Unix seconds, decimal, formatted value].
func (c *Console) serveChart(w http.ResponseWriter, r *http.Request) {
	rows := map[string][][3]any{"hourly": {}, "daily": {}}
	for _, s := range c.panelStates(r.Context(), "value")["value"] {
		t, _ := s.Data.(timeline)
		for name, points := range map[string][]point{"hourly": t.Hourly, "daily": t.Daily} {
			for _, p := range points {
				rows[name] = append(rows[name], [3]any{p.Time.Unix(), p.Value, demo.Money(p.Value) + " " + t.Currency})
			}
		}
	}
	body, err := json.Marshal(rows)
	if err != nil {
		http.Error(w, "the chart could not be encoded", http.StatusInternalServerError)
		return
	}
	serveCached(w, r, "application/json", body)
}

// portfolio is the data of the section "holdings".
type portfolio struct {
	Total, Currency string
	Positions       []position
	Incomplete      []string
	// SnapshotTime is set if the values are those of a snapshot and not of now.
	SnapshotTime time.Time
}

type position struct {
	Symbol, Amount, Price, Value, Share, Source string
	PriceTime                                   time.Time
	Stale                                       bool
	// Note says why the position does not count; "" if it does.
	Note string
	// Left and Width place the share in the bar of the allocation, in percent.
	Left, Width float64
}

func (s *services) holdings(ctx context.Context) (any, error) {
	resp, err := portfoliov1.NewPortfolioServiceClient(s.portfolio).GetValuation(ctx,
		&portfoliov1.GetValuationRequest{})
	if err != nil {
		return nil, err
	}
	v := resp.GetValuation()
	p := portfolio{Total: v.GetTotal(), Currency: v.GetCurrency(), Incomplete: v.GetIncompleteReasons()}
	left := 0.0
	for _, held := range v.GetPositions() {
		row := position{
			Symbol: held.GetSymbol(), Amount: demo.Amount(held.GetAmount(), int(held.GetDecimals())),
			Price: demo.Money(held.GetPrice()),
			Value: demo.Money(held.GetValue()), Source: held.GetPriceSource(), PriceTime: moment(held.GetPriceTime()),
			Stale: held.GetPriceStale(),
			Left:  left, Width: 100 * held.GetShare(),
		}
		switch {
		case held.GetUnpricedReason() != "":
			row.Note = "no price: " + held.GetUnpricedReason()
		case !held.GetVerified():
			row.Note = "not verified, not counted"
		}
		left += row.Width
		p.Positions = append(p.Positions, row)
	}
	if v.GetStale() {
		p.SnapshotTime = moment(v.GetValuationTime())
		return nil, &dependencyError{service: "wallet", data: p, dataTime: p.SnapshotTime}
	}
	return p, nil
}

// moment converts a timestamp; unset gives the zero time.
func moment(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}
