// Package coingecko reads prices from an HTTP feed in the shape of CoinGecko's API v3:
// GET /simple/token_price/{platform} for tokens, GET /simple/price for native coins and
// currencies, and GET /coins/…/market_chart/range for the past.
//
// It promises what package pricefeed does, and: a price that is null, not a positive
// finite number, or has no time or one of the future, is left out alone, and the log says
// how many were left out and why. Requests for fewer tokens are made when the feed says
// that it was asked for too many, as it does from 2 or 11 on without a paid key (its error
// 10012).
//
// A currency has no price there. It is that of bitcoin in US dollars, divided by its price
// in the currency; both are of one reply, or of the same time.
//
// Source: docs.coingecko.com, "Coin Price by Token Addresses", "Coin Price by IDs" and
// "Coin Historical Chart Data within Time Range by ID".
package coingecko

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/purserhq/purser/services/wallet/internal/price"
	"github.com/purserhq/purser/services/wallet/internal/pricefeed"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

// Name of the source in prices.
const Name = "coingecko"

const (
	// maxTokensPerRequest is how many tokens one request asks for at first. Fewer are asked
	// for after the feed refused as many.
	maxTokensPerRequest = 50
	// tooManyTokens is the feed's error for that.
	tooManyTokens = 10012
	// reference is the coin by which the rates of currencies are known.
	reference = "bitcoin"
)

const tracer = "purser/wallet/coingecko"

// Options of a Source.
type Options struct {
	// URL of the API, with its version.
	URL string
	// Key of a plan; "" for none.
	Key string
	// Platforms are the feed's names of chains, and Coins its ids of their native coins.
	Platforms, Coins map[uint64]string
	Log              *slog.Logger
	Now              func() time.Time
}

// Source implements price.Feed and price.PastFeed. It is safe for concurrent use.
type Source struct {
	feed             *pricefeed.Client
	platforms, coins map[uint64]string
	log              *slog.Logger
	now              func() time.Time

	mu        sync.Mutex
	batchSize int
}

// New returns the feed. No request is made yet.
func New(o Options) (*Source, error) {
	header := http.Header{}
	if o.Key != "" {
		header.Set(keyHeader(o.URL), o.Key)
	}
	feed, err := pricefeed.New("PURSER_PRICE_COINGECKO_URL", o.URL, header, o.Now)
	if err != nil {
		return nil, err
	}
	return &Source{feed: feed, platforms: o.Platforms, coins: o.Coins, log: o.Log, now: o.Now,
		batchSize: maxTokensPerRequest}, nil
}

// keyHeader is the header for a key: paid plans have a host and a header of their own.
func keyHeader(base string) string {
	if u, err := url.Parse(base); err == nil && strings.HasPrefix(u.Host, "pro-") {
		return "x-cg-pro-api-key"
	}
	return "x-cg-demo-api-key"
}

// Probe asks the feed for the price of bitcoin and returns an error when it doesn't answer,
// also during a cooldown.
func (s *Source) Probe(ctx context.Context) error {
	_, err := s.simple(ctx, "/simple/price?ids="+reference+"&vs_currencies=usd")
	return err
}

// wanted are the tokens of a call, by how the feed is asked for them.
type wanted struct {
	byPlatform map[string]map[string]token.Token // by the platform and the address
	byCoin     map[string][]token.Token          // by the id of the coin, which several chains may have
	currencies []token.Token
}

func (s *Source) sort(tokens []token.Token) wanted {
	w := wanted{byPlatform: map[string]map[string]token.Token{}, byCoin: map[string][]token.Token{}}
	for _, t := range tokens {
		switch {
		case price.IsCurrency(t.ID):
			w.currencies = append(w.currencies, t)
		case t.Native && s.coins[t.Chain] != "":
			id := strings.ToLower(s.coins[t.Chain])
			w.byCoin[id] = append(w.byCoin[id], t)
		case !t.Native && s.platforms[t.Chain] != "":
			p := s.platforms[t.Chain]
			if w.byPlatform[p] == nil {
				w.byPlatform[p] = map[string]token.Token{}
			}
			w.byPlatform[p][strings.ToLower(t.Contract.Hex())] = t
		}
	}
	return w
}

// Current implements price.Feed.
func (s *Source) Current(ctx context.Context, tokens []token.Token) (map[string]price.Price, error) {
	if err := s.feed.CheckCooldown(); err != nil {
		return nil, err
	}
	// A span of the HTTP client would carry the URL, which may have a key.
	ctx, span := otel.Tracer(tracer).Start(ctx, "coingecko.Current",
		trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attribute.Int("tokens", len(tokens))))
	defer span.End()
	w := s.sort(tokens)
	prices, left := map[string]price.Price{}, price.LeftOut{}
	err := s.coinsAndRates(ctx, w, prices, left)
	for _, platform := range slices.Sorted(maps.Keys(w.byPlatform)) {
		if err == nil {
			err = s.tokens(ctx, platform, w.byPlatform[platform], prices, left)
		}
	}
	left.Log(ctx, s.log, Name)
	if err != nil {
		s.feed.NoteFailure(ctx, err)
		return nil, err
	}
	return prices, nil
}

const simpleOptions = "&include_last_updated_at=true&precision=full"

// coinsAndRates asks for native coins and currencies in one request.
func (s *Source) coinsAndRates(ctx context.Context, w wanted, into map[string]price.Price,
	left price.LeftOut) error {
	if len(w.byCoin)+len(w.currencies) == 0 {
		return nil
	}
	ids, vs := slices.Collect(maps.Keys(w.byCoin)), []string{"usd"}
	if len(w.currencies) > 0 && !slices.Contains(ids, reference) {
		ids = append(ids, reference)
	}
	for _, c := range w.currencies {
		vs = append(vs, strings.ToLower(c.ID))
	}
	slices.Sort(ids)
	found, err := s.simple(ctx, "/simple/price?ids="+url.QueryEscape(strings.Join(ids, ","))+
		"&vs_currencies="+url.QueryEscape(strings.Join(vs, ","))+simpleOptions)
	if err != nil {
		return err
	}
	for id, tokens := range w.byCoin {
		for _, t := range tokens {
			s.take(t, found[id], into, left)
		}
	}
	for _, c := range w.currencies {
		raw, has := found[reference]
		if !has {
			continue
		}
		p, why := s.rate(c.ID, raw)
		if why != "" {
			left.Add(c, why)
			continue
		}
		into[c.ID] = p
	}
	return nil
}

// tokens asks for the tokens of a platform.
func (s *Source) tokens(ctx context.Context, platform string, byAddress map[string]token.Token,
	into map[string]price.Price, left price.LeftOut) error {
	open := slices.Sorted(maps.Keys(byAddress))
	for len(open) > 0 {
		n := min(len(open), s.batch())
		found, err := s.simple(ctx, "/simple/token_price/"+url.PathEscape(platform)+"?contract_addresses="+
			url.QueryEscape(strings.Join(open[:n], ","))+"&vs_currencies=usd"+simpleOptions)
		if isTooMany(err) && n > 1 {
			s.halve(n)
			continue
		}
		if err != nil {
			return err
		}
		for _, address := range open[:n] {
			s.take(byAddress[address], found[address], into, left)
		}
		open = open[n:]
	}
	return nil
}

func (s *Source) batch() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.batchSize
}

func (s *Source) halve(tried int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.batchSize = min(s.batchSize, max(1, tried/2))
}

// isTooMany reports whether the feed was asked for too many tokens at once.
func isTooMany(err error) bool {
	var status *pricefeed.StatusError
	if !errors.As(err, &status) || status.Status != http.StatusBadRequest {
		return false
	}
	var body struct {
		Code int `json:"error_code"`
	}
	return json.Unmarshal(status.Body, &body) == nil && body.Code == tooManyTokens
}

// simple makes a request and returns the JSON of each coin, by its id or address in lower
// case.
func (s *Source) simple(ctx context.Context, path string) (map[string]json.RawMessage, error) {
	body, err := s.feed.Get(ctx, path)
	if err != nil {
		return nil, err
	}
	return simpleReply(body)
}

// simpleReply reads a reply of /simple/….
func simpleReply(body json.RawMessage) (map[string]json.RawMessage, error) {
	if !json.Valid(body) {
		return nil, errors.New("price feed: its reply is no JSON")
	}
	return pricefeed.Members(body)
}

// take adds the price of a coin, if its JSON has a good one.
func (s *Source) take(t token.Token, raw json.RawMessage, into map[string]price.Price, left price.LeftOut) {
	if raw == nil {
		return
	}
	coin, at, why := s.coin(raw)
	if why == "" {
		if value := pricefeed.Value(coin["usd"]); value != "" {
			into[t.ID] = price.Price{Value: value, Source: Name, At: at}
			return
		}
		why = "no price"
	}
	left.Add(t, why)
}

// coin reads the prices of a coin by currencies, and their time, or says why it has none.
func (s *Source) coin(raw json.RawMessage) (prices map[string]json.Number, at time.Time, why string) {
	members, err := pricefeed.Members(raw)
	if err != nil {
		return nil, at, "malformed"
	}
	prices = map[string]json.Number{}
	for name, value := range members {
		var n json.Number
		if len(value) > 0 && value[0] != '"' && json.Unmarshal(value, &n) == nil { // a text is no number
			prices[name] = n
		}
	}
	at, why = pricefeed.Time(prices["last_updated_at"], s.now())
	return prices, at, why
}

// rate reads what a currency is worth in US dollars from the prices of bitcoin, or says
// why it can't.
func (s *Source) rate(currency string, raw json.RawMessage) (p price.Price, why string) {
	coin, at, why := s.coin(raw)
	if why != "" {
		return p, why
	}
	return rateOf(pricefeed.Value(coin["usd"]), pricefeed.Value(coin[strings.ToLower(currency)]), at)
}

// rateOf divides bitcoin's price in US dollars by its price in a currency.
func rateOf(inUSD, inCurrency string, at time.Time) (p price.Price, why string) {
	if inUSD == "" || inCurrency == "" {
		return p, "no price"
	}
	value, ok := price.Price{Value: inUSD}.In(price.Rate{Price: price.Price{Value: inCurrency}})
	if !ok {
		return p, "no price"
	}
	return price.Price{Value: value, Source: Name, At: at}, ""
}
