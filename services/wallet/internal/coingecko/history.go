package coingecko

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/purserhq/purser/services/wallet/internal/price"
	"github.com/purserhq/purser/services/wallet/internal/pricefeed"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

// maxChartHours is how long the range of one request may be: the feed has a price an hour
// for up to 90 days, and one a day for longer ranges.
const maxChartHours = 89 * 24

// History implements price.PastFeed. Each token takes a request of its own, and each
// currency two. The feed chooses how close the prices are: an hour or less for the last 90
// days; for what is older it depends on the plan, and may be a day.
func (s *Source) History(ctx context.Context, tokens []token.Token, from time.Time,
	hours int) (map[string][]price.Price, error) {
	if err := s.feed.CheckCooldown(); err != nil {
		return nil, err
	}
	ctx, span := otel.Tracer(tracer).Start(ctx, "coingecko.History", trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(attribute.Int("tokens", len(tokens)), attribute.Int("hours", hours)))
	defer span.End()
	out, left := map[string][]price.Price{}, price.LeftOut{}
	defer left.Log(ctx, s.log, Name)
	var inUSD []point // of the reference, read once
	for _, t := range tokens {
		var prices []price.Price
		var err error
		switch {
		case price.IsCurrency(t.ID):
			if inUSD == nil {
				inUSD, err = s.chart(ctx, "/coins/"+reference, "usd", from, hours)
			}
			var inCurrency []point
			if err == nil {
				inCurrency, err = s.chart(ctx, "/coins/"+reference, strings.ToLower(t.ID), from, hours)
			}
			prices = ratesOf(inUSD, inCurrency)
		case s.chartOf(t) != "":
			var points []point
			points, err = s.chart(ctx, s.chartOf(t), "usd", from, hours)
			prices = s.pricesOf(t, points, left)
		}
		if err != nil {
			s.feed.NoteFailure(ctx, err)
			return out, fmt.Errorf("chart of %s: %w", t.ID, err)
		}
		out[t.ID] = prices
	}
	return out, nil
}

// chartOf returns the path of a token's coin; "" when the feed doesn't have its chain.
func (s *Source) chartOf(t token.Token) string {
	switch {
	case t.Native && s.coins[t.Chain] != "":
		return "/coins/" + url.PathEscape(s.coins[t.Chain])
	case !t.Native && s.platforms[t.Chain] != "":
		return "/coins/" + url.PathEscape(s.platforms[t.Chain]) + "/contract/" + strings.ToLower(t.Contract.Hex())
	}
	return ""
}

// point is a price and its time, "" and zero when they can't be read.
type point struct {
	value string
	at    time.Time
}

// chart returns the points of a coin in a range, in order of their times. A coin that the
// feed doesn't know has none.
func (s *Source) chart(ctx context.Context, path, currency string, from time.Time, hours int) ([]point, error) {
	points := []point{}
	for hours > 0 {
		n := min(hours, maxChartHours)
		until := from.Add(time.Duration(n) * time.Hour)
		body, err := s.feed.Get(ctx, path+"/market_chart/range?vs_currency="+currency+"&from="+
			strconv.FormatInt(from.Unix(), 10)+"&to="+strconv.FormatInt(until.Unix(), 10)+"&precision=full")
		if isUnknown(err) {
			return points, nil
		}
		if err != nil {
			return nil, err
		}
		found, err := s.chartReply(body)
		if err != nil {
			return nil, err
		}
		points = append(points, found...)
		from, hours = until, hours-n
	}
	slices.SortStableFunc(points, func(a, b point) int { return a.at.Compare(b.at) })
	return points, nil
}

// isUnknown reports whether the feed has no such coin.
func isUnknown(err error) bool {
	var status *pricefeed.StatusError
	return errors.As(err, &status) && status.Status == http.StatusNotFound
}

// chartReply reads a reply: pairs of a time in milliseconds and a price.
func (s *Source) chartReply(body json.RawMessage) ([]point, error) {
	var r struct {
		Prices [][]json.RawMessage `json:"prices"`
	}
	if err := json.Unmarshal(body, &r); err != nil {
		return nil, fmt.Errorf("price feed: %w", err)
	}
	points := make([]point, 0, len(r.Prices))
	for _, pair := range r.Prices {
		var millis int64
		var value json.Number
		if len(pair) != 2 || json.Unmarshal(pair[0], &millis) != nil || len(pair[1]) == 0 || pair[1][0] == '"' ||
			json.Unmarshal(pair[1], &value) != nil {
			points = append(points, point{})
			continue
		}
		at, why := pricefeed.Time(json.Number(strconv.FormatInt(millis/1000, 10)), s.now())
		if why != "" {
			points = append(points, point{})
			continue
		}
		points = append(points, point{value: pricefeed.Value(value), at: at})
	}
	return points, nil
}

// pricesOf returns the points that have a price and a time.
func (s *Source) pricesOf(t token.Token, points []point, left price.LeftOut) []price.Price {
	prices := []price.Price{}
	for _, p := range points {
		if p.value == "" {
			left.Add(t, "no price")
			continue
		}
		prices = append(prices, price.Price{Value: p.value, Source: Name, At: p.at})
	}
	return prices
}

// maxTimeGap is how far the times of bitcoin's prices in two currencies may be apart that a
// rate is made of.
const maxTimeGap = 5 * time.Minute

// ratesOf returns the rates of a currency from the prices of bitcoin, which are in order
// of their times.
func ratesOf(inUSD, inCurrency []point) []price.Price {
	rates := []price.Price{}
	i := 0
	for _, c := range inCurrency {
		for i+1 < len(inUSD) && distance(inUSD[i+1].at, c.at) <= distance(inUSD[i].at, c.at) {
			i++ // to the nearest one
		}
		if i >= len(inUSD) || distance(inUSD[i].at, c.at) > maxTimeGap {
			continue
		}
		if p, why := rateOf(inUSD[i].value, c.value, c.at); why == "" {
			rates = append(rates, p)
		}
	}
	return rates
}

func distance(a, b time.Time) time.Duration { return max(a.Sub(b), b.Sub(a)) }
