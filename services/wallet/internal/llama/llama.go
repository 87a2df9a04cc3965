// Package llama reads prices from an HTTP feed in the shape of DefiLlama's
// coins API: GET /prices/current/{chain}:{address},… and
// GET /chart/{chain}:{address},…
//
// It promises: prices are read from the digits sent, never through a float; a
// price that is not a positive finite number, has no time or one of the future, or
// that the feed has little confidence in, is left out alone, and the log says how many
// were left out and why; a feed that failed is not called during its cooldown; a reply
// is bounded in size and time.
package llama

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/purserhq/purser/pkg/redact"
	"github.com/purserhq/purser/services/wallet/internal/price"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

// Name of the source in prices.
const Name = "llama"

const (
	// maxCoinsPerRequest is how many coins one request asks for.
	maxCoinsPerRequest = 80
	// requestTimeout bounds one request.
	requestTimeout = 3 * time.Second
	// feedCooldown is how long the feed is not called after a failure.
	feedCooldown = 5 * time.Second
	// maxReplyBytes bounds what is read of a reply.
	maxReplyBytes = 4 << 20
	// maxClockSkew is how far a price's time may be in the future.
	maxClockSkew = 5 * time.Minute
	// minConfidence is the least confidence, of 0 to 1, that a feed may state. Prices
	// of traded coins have 0.9 or more; below a half the feed itself doubts it.
	minConfidence = 0.5
)

// Source implements price.Source and history.PriceSource. It is safe for concurrent use.
type Source struct {
	base   string
	chains map[uint64]string
	client *http.Client
	log    *slog.Logger
	now    func() time.Time

	mu            sync.Mutex
	cooldownUntil time.Time
}

// New returns the feed at base. chains has the feed's name of each chain; tokens of
// others have no price.
func New(base string, chains map[uint64]string, log *slog.Logger, now func() time.Time) (*Source, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("PURSER_PRICE_URL must be an http or https URL")
	}
	return &Source{
		base: strings.TrimRight(base, "/"), chains: chains, log: log, now: now,
		client: &http.Client{Timeout: requestTimeout, CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("a price feed may not redirect")
		}},
	}, nil
}

// Current implements price.Source.
func (s *Source) Current(ctx context.Context, tokens []token.Token) (map[string]price.Price, error) {
	if s.inCooldown() {
		return nil, errCooldown
	}
	byCoin, coins := s.coins(tokens)
	// A span of the HTTP client would carry the URL, which may have an API key.
	ctx, span := otel.Tracer("purser/wallet/llama").Start(ctx, "llama.Current",
		trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attribute.Int("tokens", len(coins))))
	defer span.End()
	prices := map[string]price.Price{}
	for chunk := range slices.Chunk(coins, maxCoinsPerRequest) {
		fetched, err := s.fetch(ctx, chunk, byCoin)
		if err != nil {
			if ctx.Err() == nil {
				s.startCooldown()
			}
			return nil, err
		}
		maps.Copy(prices, fetched)
	}
	return prices, nil
}

// Ask asks the feed for the price of ether and returns an error when it doesn't
// answer, also during the cooldown. A feed that has no such price answers.
func (s *Source) Ask(ctx context.Context) error {
	_, err := s.get(ctx, "/prices/current/"+url.PathEscape("coingecko:ethereum"))
	return err
}

var errCooldown = errors.New("the price feed is in its cooldown after a failure")

// coins returns the tokens by their names in the feed, and the names in order.
// Tokens of chains without a name are left out.
func (s *Source) coins(tokens []token.Token) (byCoin map[string]token.Token, coins []string) {
	byCoin = map[string]token.Token{}
	for _, t := range tokens {
		if name, ok := s.chains[t.Chain]; ok {
			byCoin[name+":"+strings.ToLower(address(t).Hex())] = t
		}
	}
	return byCoin, slices.Sorted(maps.Keys(byCoin))
}

// address of a token in the feed: the native coin is at zero.
func address(t token.Token) common.Address {
	if t.Native {
		return common.Address{}
	}
	return t.Contract
}

type reply struct {
	Coins map[string]json.RawMessage `json:"coins"`
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
	left := leftOut{}
	for name, raw := range found {
		t, requested := byCoin[strings.ToLower(name)]
		if !requested {
			continue
		}
		p, why := s.parse(raw)
		if why != "" {
			left.add(t, why)
			continue
		}
		prices[t.ID] = p
	}
	left.tell(ctx, s.log)
	return prices, nil
}

// get makes a request and returns the JSON of each coin in the reply.
func (s *Source) get(ctx context.Context, path string) (map[string]json.RawMessage, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+path, nil)
	if err != nil {
		return nil, fmt.Errorf("price request: %w", redact.Error(err, s.base))
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("price feed: %w", redact.Error(err, s.base))
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("price feed: status %d", resp.StatusCode)
	}
	var r reply
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxReplyBytes))
	if err == nil {
		err = json.Unmarshal(withoutNaN(body), &r)
	}
	if err != nil {
		return nil, fmt.Errorf("price feed: %w", redact.Error(err, s.base))
	}
	return r.Coins, nil
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
	seconds, err := c.Timestamp.Int64()
	if parts, whole := strings.CutSuffix(c.Timestamp.String(), ".0"); whole { // as of a feed that counts in floats
		seconds, err = json.Number(parts).Int64()
	}
	// Compared as seconds, since a huge number overflows time.Time.
	switch {
	case err != nil || seconds <= 0:
		return p, "no time"
	case seconds > s.now().Add(maxClockSkew).Unix():
		return p, "of the future"
	}
	value, err := price.Parse(c.Price.String())
	if err != nil {
		return p, "no price"
	}
	return price.Price{Value: value, Source: Name, At: time.Unix(seconds, 0).UTC()}, ""
}

// lowConfidence reports whether a feed doubts a price; it may state no confidence.
func lowConfidence(stated json.Number) bool {
	confidence, err := stated.Float64()
	return err == nil && confidence < minConfidence
}

func (s *Source) startCooldown() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cooldownUntil = s.now().Add(feedCooldown)
}

func (s *Source) inCooldown() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now().Before(s.cooldownUntil)
}
