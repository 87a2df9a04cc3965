// Package price tells what tokens are worth.
//
// It promises: an unknown price is unavailable and never zero; a price comes
// with its source and the source's own time; while the source is away the
// last price is given with its age. No float ever carries a price.
package price

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/cockroachdb/apd/v3"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

// Reason why a token has no price.
type Reason string

// The reasons.
const (
	UnknownToken      Reason = "UNKNOWN_TOKEN"
	NoPrice           Reason = "NO_PRICE"
	SourceUnavailable Reason = "SOURCE_UNAVAILABLE"
)

// Currency of every price, ISO 4217.
const Currency = "USD"

// Quote is the price of one whole token, or the reason why there is none.
type Quote struct {
	TokenID string
	// Price as a decimal number without exponent, above zero; empty when
	// Reason is set.
	Price  string
	Source string
	// At is the source's own time of the price.
	At     time.Time
	Reason Reason `json:",omitempty"`
}

// Known is a price as stored, with when it was fetched.
type Known struct {
	Quote
	FetchedAt time.Time
}

// Source gives current prices; package llama is one.
type Source interface {
	// Current returns a quote for each token that it has a price for and
	// leaves out the others.
	Current(ctx context.Context, tokens []token.Token) (map[string]Quote, error)
}

// Store is where prices are kept.
type Store interface {
	// Tokens returns the tokens with these ids that are known.
	Tokens(ctx context.Context, ids []string) (map[string]token.Token, error)
	// Prices returns the newest prices of these tokens.
	Prices(ctx context.Context, ids []string) (map[string]Known, error)
	// SavePrices stores quotes, newer ones over older ones only.
	SavePrices(ctx context.Context, quotes []Quote, fetchedAt time.Time) error
}

// Policy is how fresh prices are kept.
type Policy struct {
	// Refresh is the age at which a price is fetched anew.
	Refresh time.Duration `env:"REFRESH" envDefault:"30s"`
	// Stale is the age, by the source's own time, past which a price is
	// marked stale.
	Stale time.Duration `env:"STALE" envDefault:"2h"`
}

// Validate reports every mistake in p.
func (p Policy) Validate() error {
	if p.Refresh < time.Second || p.Stale <= p.Refresh {
		return errors.New("PURSER_PRICE_REFRESH must be at least 1s, and PURSER_PRICE_STALE above it")
	}
	return nil
}

// Service gives prices. It is safe for concurrent use.
type Service struct {
	store  Store
	source Source
	cache  *cache.Cache[Quote]
	policy Policy
	log    *slog.Logger
	now    func() time.Time
}

// NewService returns the rules over a store, a source and a cache whose TTL
// should be Policy.Refresh.
func NewService(s Store, src Source, c *cache.Cache[Quote], p Policy, log *slog.Logger,
	now func() time.Time) *Service {
	return &Service{store: s, source: src, cache: c, policy: p, log: log, now: now}
}

// fetching bounds a fetch. It doesn't end with the caller who happens to be
// the one to cause it: others wait for the same prices.
const fetching = 4 * time.Second

// errSource is a load whose source failed: nothing of it is cached, or one
// failure, or one impatient caller, would hide the prices from everybody.
var errSource = errors.New("price: the source failed")

// Quotes returns a quote for every id, with a price or a reason. The ids
// should be of known tokens; see Ask.
func (s *Service) Quotes(ctx context.Context, ids []string) (map[string]Quote, error) {
	return s.quotes(ctx, ids, s.store.Tokens)
}

// Ask is Quotes for ids that a caller made up: those that are no token's cost
// nothing in the cache.
func (s *Service) Ask(ctx context.Context, ids []string) (map[string]Quote, error) {
	tokens, err := s.store.Tokens(ctx, ids)
	if err != nil {
		return nil, err
	}
	quotes, err := s.quotes(ctx, slices.Collect(maps.Keys(tokens)),
		func(context.Context, []string) (map[string]token.Token, error) {
			return tokens, nil
		})
	if err != nil {
		return nil, err
	}
	all := make(map[string]Quote, len(ids))
	for _, id := range ids {
		all[id] = Quote{TokenID: id, Reason: UnknownToken}
	}
	maps.Copy(all, quotes)
	return all, nil
}

// finder returns at least those of the tokens with these ids that are known.
type finder func(ctx context.Context, ids []string) (map[string]token.Token, error)

func (s *Service) quotes(ctx context.Context, ids []string, find finder) (map[string]Quote, error) {
	if len(ids) == 0 {
		return map[string]Quote{}, nil
	}
	quotes, err := s.cache.GetMany(ctx, ids, func(ctx context.Context, missing []string) (map[string]Quote, error) {
		return s.load(ctx, missing, find)
	})
	if !errors.Is(err, errSource) {
		return quotes, err
	}
	tokens, known, err := s.stored(ctx, ids, find)
	if err != nil {
		return nil, err
	}
	return pickAll(ids, tokens, known, nil, true), nil
}

// Stale reports whether a quote's price is too old to be called current.
func (s *Service) Stale(q Quote) bool { return q.Price != "" && s.now().Sub(q.At) > s.policy.Stale }

// load reads the stored prices and fetches those that are due.
func (s *Service) load(ctx context.Context, ids []string, find finder) (map[string]Quote, error) {
	tokens, known, err := s.stored(ctx, ids, find)
	if err != nil {
		return nil, err
	}
	now := s.now()
	var due []token.Token
	for _, id := range ids {
		t, ok := tokens[id]
		if k, stored := known[id]; ok && (!stored || now.Sub(k.FetchedAt) >= s.policy.Refresh) {
			due = append(due, t)
		}
	}
	fresh, failed := s.fetch(ctx, due)
	if failed {
		return nil, errSource
	}
	return pickAll(ids, tokens, known, fresh, false), nil
}

func (s *Service) stored(ctx context.Context, ids []string, find finder) (map[string]token.Token, map[string]Known,
	error) {
	tokens, err := find(ctx, ids)
	if err != nil {
		return nil, nil, err
	}
	known, err := s.store.Prices(ctx, ids)
	return tokens, known, err
}

func pickAll(ids []string, tokens map[string]token.Token, known map[string]Known, fresh map[string]Quote,
	failed bool) map[string]Quote {
	out := make(map[string]Quote, len(ids))
	for _, id := range ids {
		out[id] = pick(id, tokens, known, fresh, failed)
	}
	return out
}

// fetch asks the source and stores what it said. A source that fails leaves
// the stored prices to serve.
func (s *Service) fetch(ctx context.Context, due []token.Token) (fresh map[string]Quote, failed bool) {
	if len(due) == 0 {
		return nil, false
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetching)
	defer cancel()
	now := s.now()
	fresh, err := s.source.Current(ctx, due)
	if err != nil {
		s.log.WarnContext(ctx, "price source failed", "error", err)
		return nil, true
	}
	quotes := make([]Quote, 0, len(fresh))
	for _, q := range fresh {
		quotes = append(quotes, q)
	}
	if err := s.store.SavePrices(ctx, quotes, now); err != nil {
		s.log.WarnContext(ctx, "prices could not be stored", "error", err)
	}
	return fresh, false
}

func pick(id string, tokens map[string]token.Token, known map[string]Known, fresh map[string]Quote,
	failed bool) Quote {
	if _, ok := tokens[id]; !ok {
		return Quote{TokenID: id, Reason: UnknownToken}
	}
	k, stored := known[id]
	q, fetched := fresh[id]
	switch {
	case fetched && (!stored || !q.At.Before(k.At)):
		return q
	case stored:
		return k.Quote
	case failed:
		return Quote{TokenID: id, Reason: SourceUnavailable}
	default:
		return Quote{TokenID: id, Reason: NoPrice}
	}
}

// maxDigits bounds a price: more before or after the point than any price
// has, little enough to calculate with.
const maxDigits = 40

// Parse reads a price as a source writes it and returns it without exponent.
// It is an error unless it is a finite number above zero of at most 40
// digits before and 40 after the point.
func Parse(text string) (string, error) {
	if len(text) > 2*maxDigits+8 {
		return "", errors.New("price is too long")
	}
	d, cond, err := apd.NewFromString(text)
	if err != nil || cond.Any() || d.Form != apd.Finite {
		return "", errors.New("price is not a finite number")
	}
	if d.Sign() <= 0 {
		return "", errors.New("price is not above zero")
	}
	d.Reduce(d)
	if d.Exponent < -maxDigits || int64(d.Exponent)+d.NumDigits() > maxDigits {
		return "", errors.New("price is out of range")
	}
	return d.Text('f'), nil
}
