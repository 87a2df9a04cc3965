package llama

import (
	"context"
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"github.com/purserhq/purser/services/wallet/internal/price"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

// maxPointsPerRequest is how many points one request asks for, of all its coins.
const maxPointsPerRequest = 500

// History implements price.PastFeed by GET /chart/{coins}, which has a point
// about every full hour.
func (s *Source) History(ctx context.Context, tokens []token.Token, from time.Time,
	hours int) (map[string][]price.Price, error) {
	if err := s.feed.CheckCooldown(); err != nil {
		return nil, err
	}
	byCoin, coins := s.coins(tokens)
	ctx, span := otel.Tracer("purser/wallet/llama").Start(ctx, "llama.History",
		trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(attribute.Int("tokens", len(coins)), attribute.Int("hours", hours)))
	defer span.End()
	prices := map[string][]price.Price{}
	for _, t := range tokens {
		if s.coinOf(t) == "" {
			prices[t.ID] = nil // the feed has none
		}
	}
	var mu sync.Mutex
	g, groupCtx := errgroup.WithContext(ctx)
	g.SetLimit(maxConcurrentRequests)
	chunkSize := min(maxCoinsPerRequest, maxPointsPerRequest/max(1, min(hours, maxPointsPerRequest)))
	for chunk := range slices.Chunk(coins, chunkSize) {
		g.Go(func() error {
			got, err := s.charts(groupCtx, chunk, byCoin, from, hours)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			maps.Copy(prices, got)
			return nil
		})
	}
	err := g.Wait()
	s.feed.NoteFailure(ctx, err)
	return prices, err
}

// charts returns the prices of a few coins in all hours, by token id. Every coin
// has an entry.
func (s *Source) charts(ctx context.Context, coins []string, byCoin map[string]token.Token, from time.Time,
	hours int) (map[string][]price.Price, error) {
	prices := map[string][]price.Price{}
	for _, c := range coins {
		prices[byCoin[c].ID] = nil
	}
	for hours > 0 {
		n := min(hours, maxPointsPerRequest)
		if err := s.chart(ctx, coins, byCoin, from, n, prices); err != nil {
			return nil, err
		}
		from, hours = from.Add(time.Duration(n)*time.Hour), hours-n
	}
	for _, p := range prices {
		slices.SortStableFunc(p, func(a, b price.Price) int { return a.At.Compare(b.At) })
	}
	return prices, nil
}

type chart struct {
	Prices     []json.RawMessage `json:"prices"`
	Confidence json.Number       `json:"confidence"`
}

// chart appends the prices of one request to those in into.
func (s *Source) chart(ctx context.Context, coins []string, byCoin map[string]token.Token, from time.Time, hours int,
	into map[string][]price.Price) error {
	query := url.Values{"start": {strconv.FormatInt(from.Unix(), 10)}, "span": {strconv.Itoa(hours)}, "period": {"1h"}}
	found, err := s.get(ctx, "/chart/"+url.PathEscape(strings.Join(coins, ","))+"?"+query.Encode())
	if err != nil {
		return err
	}
	left := price.LeftOut{}
	for name, raw := range found {
		t := byCoin[name]
		var c chart
		switch {
		case !slices.Contains(coins, name):
			continue
		case json.Unmarshal(raw, &c) != nil:
			left.Add(t, "malformed")
			continue
		case lowConfidence(c.Confidence):
			left.Add(t, "low confidence")
			continue
		}
		for _, p := range c.Prices {
			parsed, why := s.parse(p)
			if why != "" {
				left.Add(t, why)
				continue
			}
			into[t.ID] = append(into[t.ID], parsed)
		}
	}
	left.Log(ctx, s.log, Name)
	return nil
}
