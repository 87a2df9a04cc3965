package console

import (
	"context"
	"encoding/json"
	"math/big"
	"net/http"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/devstack/demo"
)

const (
	day = 24 * time.Hour
	// hourlyFor and dailyFor are how far back the value is shown.
	hourlyFor = 7 * day
	dailyFor  = 90 * day
)

// timeline is the value over time.
type timeline struct {
	Currency      string
	Hourly, Daily []point
}

// point is the value at the end of an interval.
type point struct {
	Time    time.Time
	Value   string
	Carried bool
}

// Newest is the last value known; nil when there is none.
func (t timeline) Newest() *point {
	if len(t.Hourly) == 0 {
		return nil
	}
	return &t.Hourly[len(t.Hourly)-1]
}

// Latest are the daily points, newest first.
func (t timeline) Latest() []point {
	var out []point
	for i := len(t.Daily) - 1; i >= 0; i-- {
		out = append(out, t.Daily[i])
	}
	return out
}

// Change is by how much the value moved since the first point shown at or
// after this time before the newest; "" when it can't be said.
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
			return "" // that history isn't known
		}
		return percent(p.Value, newest.Value)
	}
	return ""
}

// percent is the change from one decimal to another, with two places.
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
	for _, ask := range []struct {
		interval portfoliov1.Interval
		reach    time.Duration
		into     *[]point
	}{{portfoliov1.Interval_INTERVAL_HOURLY, hourlyFor, &t.Hourly},
		{portfoliov1.Interval_INTERVAL_DAILY, dailyFor, &t.Daily}} {
		resp, err := client.GetTimeline(ctx, &portfoliov1.GetTimelineRequest{
			Interval: ask.interval, StartTime: timestamppb.New(time.Now().Add(-ask.reach)),
		})
		if err != nil {
			return nil, err
		}
		t.Currency = resp.GetCurrency()
		for _, p := range resp.GetPoints() {
			*ask.into = append(*ask.into, point{Time: p.GetStartTime().AsTime(), Value: p.GetClose(),
				Carried: p.GetCarriedForward()})
		}
	}
	return t, nil
}

// series answers with the points of the chart: the seconds since 1970, the
// value as a decimal, and as people read it.
func (c *Console) series(w http.ResponseWriter, r *http.Request) {
	rows := map[string][][3]any{"hourly": {}, "daily": {}}
	for _, s := range c.look(r.Context(), "value")["value"] {
		t, _ := s.Data.(timeline)
		for name, points := range map[string][]point{"hourly": t.Hourly, "daily": t.Daily} {
			for _, p := range points {
				rows[name] = append(rows[name], [3]any{p.Time.Unix(), p.Value, demo.Money(p.Value) + " " + t.Currency})
			}
		}
	}
	body, err := json.Marshal(rows)
	if err != nil {
		http.Error(w, "no series", http.StatusInternalServerError)
		return
	}
	answer(w, r, "application/json", body)
}

// portfolio is what the user holds now.
type portfolio struct {
	Total, Currency string
	Positions       []position
	Incomplete      []string
	// Snapshot is when the values are of, when they are not of now.
	Snapshot time.Time
}

type position struct {
	Symbol, Amount, Price, Value, Share, Source string
	PriceTime                                   time.Time
	Stale                                       bool
	// Note is why it isn't counted; "" when it is.
	Note string
	// From and Part are where the share begins and how wide it is, of 100.
	From, Part float64
}

func (s *services) holdings(ctx context.Context) (any, error) {
	resp, err := portfoliov1.NewPortfolioServiceClient(s.portfolio).GetValuation(ctx,
		&portfoliov1.GetValuationRequest{})
	if err != nil {
		return nil, err
	}
	v := resp.GetValuation()
	p := portfolio{Total: v.GetTotal(), Currency: v.GetCurrency(), Incomplete: v.GetIncompleteReasons()}
	from := 0.0
	for _, held := range v.GetPositions() {
		row := position{
			Symbol: held.GetSymbol(), Amount: demo.Amount(held.GetAmount(), int(held.GetDecimals())),
			Price: demo.Money(held.GetPrice()),
			Value: demo.Money(held.GetValue()), Source: held.GetPriceSource(), PriceTime: moment(held.GetPriceTime()),
			Stale: held.GetPriceStale(),
			From:  from, Part: 100 * held.GetShare(),
		}
		switch {
		case held.GetUnpricedReason() != "":
			row.Note = "no price: " + held.GetUnpricedReason()
		case !held.GetVerified():
			row.Note = "not verified, not counted"
		}
		from += row.Part
		p.Positions = append(p.Positions, row)
	}
	if v.GetStale() {
		p.Snapshot = moment(v.GetValuationTime())
		return nil, &behindError{service: "wallet", data: p, known: p.Snapshot}
	}
	return p, nil
}

// moment is a time, zero when it is unset.
func moment(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}
