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

const (
	// points is how many points one request asks for at most, of all its coins.
	points = 500
	// sideBySide is how many requests for charts are under way at once.
	sideBySide = 4
)

// History implements history.Prices by GET /chart/{coins}, which has a point
// about every full hour.
func (s *Source) History(ctx context.Context, tokens []token.Token, from time.Time,
	hours int) (map[string][]price.Quote, error) {
	if s.rests() {
		return nil, errRests
	}
	byCoin, coins := s.coins(tokens)
	ctx, span := otel.Tracer("purser/wallet/llama").Start(ctx, "llama.History",
		trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(attribute.Int("tokens", len(coins)), attribute.Int("hours", hours)))
	defer span.End()
	quotes := map[string][]price.Quote{}
	for _, t := range tokens {
		if _, named := s.chains[t.Chain]; !named {
			quotes[t.ID] = nil // the feed has none
		}
	}
	var mu sync.Mutex
	g, asking := errgroup.WithContext(ctx)
	g.SetLimit(sideBySide)
	for part := range slices.Chunk(coins, min(batch, points/max(1, min(hours, points)))) {
		g.Go(func() error {
			got, err := s.charts(asking, part, byCoin, from, hours)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			maps.Copy(quotes, got)
			return nil
		})
	}
	err := g.Wait()
	if err != nil && ctx.Err() == nil {
		s.rest()
	}
	return quotes, err
}

// charts asks for all hours of a few coins, each of which is in the answer.
func (s *Source) charts(ctx context.Context, coins []string, byCoin map[string]token.Token, from time.Time,
	hours int) (map[string][]price.Quote, error) {
	quotes := map[string][]price.Quote{}
	for _, c := range coins {
		quotes[byCoin[c].ID] = nil
	}
	for hours > 0 {
		some := min(hours, points)
		if err := s.chart(ctx, coins, byCoin, from, some, quotes); err != nil {
			return nil, err
		}
		from, hours = from.Add(time.Duration(some)*time.Hour), hours-some
	}
	for _, q := range quotes {
		slices.SortStableFunc(q, func(a, b price.Quote) int { return a.At.Compare(b.At) })
	}
	return quotes, nil
}

type chart struct {
	Prices []json.RawMessage `json:"prices"`
}

func (s *Source) chart(ctx context.Context, coins []string, byCoin map[string]token.Token, from time.Time, hours int,
	into map[string][]price.Quote) error {
	query := url.Values{"start": {strconv.FormatInt(from.Unix(), 10)}, "span": {strconv.Itoa(hours)}, "period": {"1h"}}
	found, err := s.get(ctx, "/chart/"+url.PathEscape(strings.Join(coins, ","))+"?"+query.Encode())
	if err != nil {
		return err
	}
	for name, raw := range found {
		name = strings.ToLower(name)
		t := byCoin[name]
		var c chart
		if !slices.Contains(coins, name) || json.Unmarshal(raw, &c) != nil {
			continue
		}
		for _, p := range c.Prices {
			if q, ok := s.quote(t, p); ok {
				into[t.ID] = append(into[t.ID], q)
			}
		}
	}
	return nil
}
