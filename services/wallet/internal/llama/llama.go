// Package llama reads prices from an HTTP feed in the shape of DefiLlama's
// coins API: GET /prices/current/{chain}:{address},… and
// GET /chart/{chain}:{address},…
//
// It promises: prices are read from the digits sent, never through a float; a
// price that is not a positive finite number, has no time or one of the future, or
// that the feed has little confidence in, is left out alone, and the log says how many
// were left out and why; a feed that failed is not called during its cooldown; a reply
// is bounded in size and time. Package pricefeed keeps a part of this.
package llama

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"github.com/purserhq/purser/services/wallet/internal/price"
	"github.com/purserhq/purser/services/wallet/internal/pricefeed"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

// Name of the source in prices.
const Name = "llama"

const (
	// maxCoinsPerRequest is how many coins one request asks for.
	maxCoinsPerRequest = 80
	// maxConcurrentRequests is how many requests are made concurrently.
	maxConcurrentRequests = 4
	// minConfidence is the least confidence, of 0 to 1, that a feed may state. Prices
	// of traded coins have 0.9 or more; below a half the feed itself doubts it.
	minConfidence = 0.5
)

// Source implements price.Feed and price.PastFeed. It is safe for concurrent use.
type Source struct {
	feed       *pricefeed.Client
	chains     map[uint64]string
	currencies map[string]string
	log        *slog.Logger
	now        func() time.Time
}

// New returns the feed at base. chains has the feed's name of each chain; tokens of
// others have no price, nor have currencies before NameCurrencies.
func New(base string, chains map[uint64]string, log *slog.Logger, now func() time.Time) (*Source, error) {
	feed, err := pricefeed.New("PURSER_PRICE_URL", base, nil, now)
	if err != nil {
		return nil, err
	}
	return &Source{feed: feed, chains: chains, log: log, now: now}, nil
}

// NameCurrencies sets the feed's coin for each currency, such as "coingecko:euro-coin" for
// EUR. It must not be called after the first use.
func (s *Source) NameCurrencies(coins map[string]string) { s.currencies = coins }

// Current implements price.Feed.
func (s *Source) Current(ctx context.Context, tokens []token.Token) (map[string]price.Price, error) {
	if err := s.feed.CheckCooldown(); err != nil {
		return nil, err
	}
	byCoin, coins := s.coins(tokens)
	// A span of the HTTP client would carry the URL, which may have an API key.
	ctx, span := otel.Tracer("purser/wallet/llama").Start(ctx, "llama.Current",
		trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attribute.Int("tokens", len(coins))))
	defer span.End()
	prices := map[string]price.Price{}
	var mu sync.Mutex
	g, groupCtx := errgroup.WithContext(ctx)
	g.SetLimit(maxConcurrentRequests)
	for chunk := range slices.Chunk(coins, maxCoinsPerRequest) {
		g.Go(func() error {
			fetched, err := s.fetch(groupCtx, chunk, byCoin)
			mu.Lock()
			defer mu.Unlock()
			maps.Copy(prices, fetched)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		s.feed.NoteFailure(ctx, err)
		return nil, err
	}
	return prices, nil
}

// Probe asks the feed for the price of ether and returns an error when it doesn't
// answer, also during the cooldown. A feed that has no such price answers.
func (s *Source) Probe(ctx context.Context) error {
	_, err := s.get(ctx, "/prices/current/"+url.PathEscape("coingecko:ethereum"))
	return err
}

// coins returns the tokens by their names in the feed, and the names in order.
// Those without a name are left out.
func (s *Source) coins(tokens []token.Token) (byCoin map[string]token.Token, coins []string) {
	byCoin = map[string]token.Token{}
	for _, t := range tokens {
		if name := s.coinOf(t); name != "" {
			byCoin[name] = t
		}
	}
	return byCoin, slices.Sorted(maps.Keys(byCoin))
}

// coinOf returns the name of a token or currency in the feed; "" for none.
func (s *Source) coinOf(t token.Token) string {
	if price.IsCurrency(t.ID) {
		return strings.ToLower(s.currencies[t.ID])
	}
	name, ok := s.chains[t.Chain]
	if !ok {
		return ""
	}
	return strings.ToLower(name + ":" + address(t).Hex())
}

// address of a token in the feed: the native coin is at zero.
func address(t token.Token) common.Address {
	if t.Native {
		return common.Address{}
	}
	return t.Contract
}

type coin struct {
	Price      json.Number `json:"price"`
	Timestamp  json.Number `json:"timestamp"`
	Confidence json.Number `json:"confidence"`
}

// fetch returns the current prices of coins, by token id.
func (s *Source) fetch(ctx context.Context, coins []string, byCoin map[string]token.Token) (map[string]price.Price,
	error) {
	found, err := s.get(ctx, "/prices/current/"+url.PathEscape(strings.Join(coins, ",")))
	if err != nil {
		return nil, err
	}
	prices := map[string]price.Price{}
	left := price.LeftOut{}
	for name, raw := range found {
		t, requested := byCoin[name]
		if !requested {
			continue
		}
		p, why := s.parse(raw)
		if why != "" {
			left.Add(t, why)
			continue
		}
		prices[t.ID] = p
	}
	left.Log(ctx, s.log, Name)
	return prices, nil
}

// get makes a request and returns the JSON of each coin in the reply, by its name in lower
// case.
func (s *Source) get(ctx context.Context, path string) (map[string]json.RawMessage, error) {
	body, err := s.feed.Get(ctx, path)
	if err != nil {
		return nil, err
	}
	return coinsOf(body)
}

// coinsOf reads a reply.
func coinsOf(body json.RawMessage) (map[string]json.RawMessage, error) {
	var r struct {
		Coins json.RawMessage `json:"coins"`
	}
	if err := json.Unmarshal(body, &r); err != nil {
		return nil, fmt.Errorf("price feed: %w", err)
	}
	if len(r.Coins) == 0 || string(r.Coins) == "null" {
		return map[string]json.RawMessage{}, nil
	}
	return pricefeed.Members(r.Coins)
}

// parse reads one price of a reply, or says why it is left out.
func (s *Source) parse(raw json.RawMessage) (p price.Price, why string) {
	var c coin
	if json.Unmarshal(raw, &c) != nil {
		return p, "malformed"
	}
	if lowConfidence(c.Confidence) {
		return p, "low confidence"
	}
	at, why := pricefeed.Time(c.Timestamp, s.now())
	if why != "" {
		return p, why
	}
	value := pricefeed.Value(c.Price)
	if value == "" {
		return p, "no price"
	}
	return price.Price{Value: value, Source: Name, At: at}, ""
}

// lowConfidence reports whether a feed doubts a price; it may state no confidence.
func lowConfidence(stated json.Number) bool {
	confidence, err := stated.Float64()
	return err == nil && confidence < minConfidence
}
