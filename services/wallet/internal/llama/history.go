package llama

import (
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/purserhq/purser/services/wallet/internal/price"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

// points is how many points one request asks for at most, of all its coins.
const points = 500

// History implements history.Prices by GET /chart/{coins}, which has a point
// about every full hour.
func (s *Source) History(ctx context.Context, tokens []token.Token, from time.Time, hours int) (map[string][]price.Quote, error) {
	if s.rests() {
		return nil, errRests
	}
	byCoin, coins := s.coins(tokens)
	ctx, span := otel.Tracer("purser/wallet/llama").Start(ctx, "llama.History", trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(attribute.Int("tokens", len(coins)), attribute.Int("hours", hours)))
	defer span.End()
	quotes := map[string][]price.Quote{}
	for hours > 0 {
		some := min(hours, points)
		for part := range slices.Chunk(coins, min(batch, points/some)) {
			if err := s.chart(ctx, part, byCoin, from, some, quotes); err != nil {
				if ctx.Err() == nil {
					s.rest()
				}
				return nil, err
			}
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

func (s *Source) chart(ctx context.Context, coins []string, byCoin map[string]token.Token, from time.Time, hours int, into map[string][]price.Quote) error {
	query := url.Values{"start": {strconv.FormatInt(from.Unix(), 10)}, "span": {strconv.Itoa(hours)}, "period": {"1h"}}
	found, err := s.get(ctx, "/chart/"+url.PathEscape(strings.Join(coins, ","))+"?"+query.Encode())
	if err != nil {
		return err
	}
	for name, raw := range found {
		t, asked := byCoin[strings.ToLower(name)]
		var c chart
		if !asked || json.Unmarshal(raw, &c) != nil {
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
