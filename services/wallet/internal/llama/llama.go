// Package llama reads prices from an HTTP feed in the shape of DefiLlama's
// coins API: GET /prices/current/{chain}:{address},… and
// GET /chart/{chain}:{address},…
//
// It promises: prices are read from the digits sent, never through a float;
// one that is not a positive finite number, or of the future, is left out; a
// feed that failed rests for a while; a reply is bounded in size and time.
package llama

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

// Name of the source in quotes.
const Name = "llama"

// Bounds of talking to the feed.
const (
	batch    = 80
	timeout  = 3 * time.Second
	rest     = 5 * time.Second
	maxReply = 4 << 20
	ahead    = 5 * time.Minute
)

// Source implements price.Source and history.Prices. It is safe for concurrent use.
type Source struct {
	base   string
	chains map[uint64]string
	client *http.Client
	now    func() time.Time

	mu      sync.Mutex
	resting time.Time
}

// New reads from the feed at base; chains has the feed's name of each chain.
func New(base string, chains map[uint64]string, now func() time.Time) (*Source, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("PURSER_PRICE_URL must be an http or https URL")
	}
	return &Source{
		base: strings.TrimRight(base, "/"), chains: chains, now: now,
		client: &http.Client{Timeout: timeout, CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("a price feed may not redirect")
		}},
	}, nil
}

// Current implements price.Source.
func (s *Source) Current(ctx context.Context, tokens []token.Token) (map[string]price.Quote, error) {
	if s.rests() {
		return nil, errRests
	}
	byCoin, coins := s.coins(tokens)
	// Made by hand: a span of the HTTP client would carry the URL, and with it
	// whatever key the feed wants.
	ctx, span := otel.Tracer("purser/wallet/llama").Start(ctx, "llama.Current",
		trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attribute.Int("tokens", len(coins))))
	defer span.End()
	quotes := map[string]price.Quote{}
	for some := range slices.Chunk(coins, batch) {
		if err := s.fetch(ctx, some, byCoin, quotes); err != nil {
			if ctx.Err() == nil {
				s.rest()
			}
			return nil, err
		}
	}
	return quotes, nil
}

var errRests = errors.New("the price feed rests after a failure")

// coins are the names of tokens in the feed, in order; tokens of chains that it
// has no name for are left out.
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
	Price     json.Number `json:"price"`
	Timestamp json.Number `json:"timestamp"`
}

func (s *Source) fetch(ctx context.Context, coins []string, byCoin map[string]token.Token,
	into map[string]price.Quote) error {
	found, err := s.get(ctx, "/prices/current/"+url.PathEscape(strings.Join(coins, ",")))
	if err != nil {
		return err
	}
	for name, raw := range found {
		t, asked := byCoin[strings.ToLower(name)]
		if !asked {
			continue
		}
		if q, ok := s.quote(t, raw); ok {
			into[t.ID] = q
		}
	}
	return nil
}

// get asks the feed and returns what it says of each coin.
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
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxReply)).Decode(&r); err != nil {
		return nil, fmt.Errorf("price feed: %w", redact.Error(err, s.base))
	}
	return r.Coins, nil
}

// quote reads one price of a reply; one that is malformed leaves the others
// be.
func (s *Source) quote(t token.Token, raw json.RawMessage) (price.Quote, bool) {
	var c coin
	if json.Unmarshal(raw, &c) != nil {
		return price.Quote{}, false
	}
	seconds, err := c.Timestamp.Int64()
	// Compared as seconds: a time past any would wrap round to one of the past.
	if err != nil || seconds <= 0 || seconds > s.now().Add(ahead).Unix() {
		return price.Quote{}, false
	}
	text, err := price.Parse(c.Price.String())
	if err != nil {
		return price.Quote{}, false
	}
	return price.Quote{TokenID: t.ID, Price: text, Source: Name, At: time.Unix(seconds, 0).UTC()}, true
}

func (s *Source) rest() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resting = s.now().Add(rest)
}

func (s *Source) rests() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now().Before(s.resting)
}
