package price

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/deadline"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

// Stored is a price of the store.
type Stored struct {
	Price
	FetchedAt time.Time
}

// Store has tokens and their newest prices. All maps are by token id.
type Store interface {
	// Tokens returns those of the tokens that are known.
	Tokens(ctx context.Context, ids []string) (map[string]token.Token, error)
	// Prices returns the newest prices of these tokens.
	Prices(ctx context.Context, ids []string) (map[string]Stored, error)
	// SavePrices stores prices. An older one never replaces a newer one of its source.
	SavePrices(ctx context.Context, prices map[string]Price, fetchedAt time.Time) error
}

// Service returns prices. It is safe for concurrent use.
type Service struct {
	store   Store
	sources *Sources
	cache   *cache.Cache[Quote]
	policy  Policy
	log     *slog.Logger
	now     func() time.Time
}

// NewService returns the rules over a store, sources and a cache, whose TTL should be
// Policy.Refresh.
func NewService(s Store, src *Sources, c *cache.Cache[Quote], p Policy, log *slog.Logger,
	now func() time.Time) *Service {
	return &Service{store: s, sources: src, cache: c, policy: p, log: log, now: now}
}

// fetchTimeout bounds a fetch. It goes on after the end of the call that caused
// it, since other calls wait for the same prices. What was fetched in the last moment
// has writeGrace more to be stored.
const fetchTimeout, writeGrace = 4 * time.Second, 2 * time.Second

// errSource fails a load whose sources failed, so that nothing of it is cached:
// a single failure, or a caller who leaves, must not hide a price from others.
var errSource = errors.New("price: the sources failed")

// Quotes returns a quote for every id, which should be ids of known tokens: the
// cache keeps an entry for each. See LookUp for others.
func (s *Service) Quotes(ctx context.Context, ids []string) (map[string]Quote, error) {
	return s.quotes(ctx, ids, s.Known)
}

// Known returns those of the tokens and currencies with these ids that are known.
func (s *Service) Known(ctx context.Context, ids []string) (map[string]token.Token, error) {
	var tokens []string
	known := map[string]token.Token{}
	for _, id := range ids {
		if IsCurrency(id) {
			known[id] = CurrencyToken(id)
		} else {
			tokens = append(tokens, id)
		}
	}
	if len(tokens) == 0 {
		return known, nil
	}
	found, err := s.store.Tokens(ctx, tokens)
	maps.Copy(known, found)
	return known, err
}

// LookUp is Quotes for ids that come from a caller. Those of unknown tokens leave
// no entry in the cache.
func (s *Service) LookUp(ctx context.Context, ids []string) (map[string]Quote, error) {
	tokens, err := s.Known(ctx, ids)
	if err != nil {
		return nil, err
	}
	known, err := s.quotes(ctx, slices.Collect(maps.Keys(tokens)),
		func(context.Context, []string) (map[string]token.Token, error) { return tokens, nil })
	if err != nil {
		return nil, err
	}
	quotes := make(map[string]Quote, len(ids))
	for _, id := range ids {
		quotes[id] = Quote{TokenID: id, Reason: UnknownToken}
	}
	maps.Copy(quotes, known)
	return quotes, nil
}

// tokenFinder returns those of the tokens with these ids that are known, and may
// return others.
type tokenFinder func(ctx context.Context, ids []string) (map[string]token.Token, error)

func (s *Service) quotes(ctx context.Context, ids []string, find tokenFinder) (map[string]Quote, error) {
	if len(ids) == 0 {
		return map[string]Quote{}, nil
	}
	quotes, err := s.cache.GetMany(ctx, ids, func(ctx context.Context, missing []string) (map[string]Quote, error) {
		return s.load(ctx, missing, find)
	})
	if errors.Is(err, errSource) {
		quotes, err = s.storedQuotes(ctx, ids, find)
	}
	if err != nil {
		return nil, err
	}
	for id, q := range quotes {
		q.Stale = q.Reason == "" && q.StaleAt(s.now(), s.policy.Stale)
		quotes[id] = q
	}
	return quotes, nil
}

// load reads the stored prices and fetches those that are due.
func (s *Service) load(ctx context.Context, ids []string, find tokenFinder) (map[string]Quote, error) {
	tokens, stored, err := s.read(ctx, ids, find)
	if err != nil {
		return nil, err
	}
	now := s.now()
	var due []token.Token
	for _, id := range ids {
		t, known := tokens[id]
		if p, ok := stored[id]; known && (!ok || now.Sub(p.FetchedAt) >= s.policy.Refresh) {
			due = append(due, t)
		}
	}
	fetched, err := s.fetch(ctx, due, stored)
	if err != nil {
		return nil, err
	}
	quotes := newestQuotes(ids, tokens, stored, fetched, NoPrice)
	s.sources.metrics.read(ctx, quotes, now)
	return quotes, nil
}

// storedQuotes returns quotes without the source.
func (s *Service) storedQuotes(ctx context.Context, ids []string, find tokenFinder) (map[string]Quote, error) {
	tokens, stored, err := s.read(ctx, ids, find)
	if err != nil {
		return nil, err
	}
	quotes := newestQuotes(ids, tokens, stored, nil, SourceUnavailable)
	s.sources.metrics.read(ctx, quotes, s.now())
	return quotes, nil
}

// read returns the known tokens and their stored prices.
func (s *Service) read(ctx context.Context, ids []string, find tokenFinder) (map[string]token.Token,
	map[string]Stored, error) {
	tokens, err := find(ctx, ids)
	if err != nil {
		return nil, nil, err
	}
	stored, err := s.store.Prices(ctx, ids)
	return tokens, stored, err
}

// fetch asks the sources for prices and stores them. It returns errSource when sources
// failed and some have no price for that; prices that can't be stored are returned
// nevertheless.
func (s *Service) fetch(ctx context.Context, due []token.Token, stored map[string]Stored) (map[string]Price,
	error) {
	if len(due) == 0 {
		return map[string]Price{}, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTimeout)
	defer cancel()
	now := s.now()
	last := make(map[string]Price, len(stored))
	for id, old := range stored {
		last[id] = old.Price
	}
	fetched, failed := s.sources.Current(ctx, due, last)
	for id, p := range fetched {
		if old := last[id]; p.StaleAt(now, s.policy.Stale) && p.At.Before(old.At) {
			delete(fetched, id)
		}
	}
	finishing, done := deadline.Grace(ctx, writeGrace)
	defer done()
	if err := s.store.SavePrices(finishing, fetched, now); err != nil {
		s.log.WarnContext(ctx, "prices could not be stored", "error", err)
	}
	if failed != nil {
		return nil, errSource
	}
	return fetched, nil
}

// newestQuotes returns a quote for every id: the newer one of its fetched and its
// stored price, or, for a known token without either, unpriced as the reason.
func newestQuotes(ids []string, tokens map[string]token.Token, stored map[string]Stored, fetched map[string]Price,
	unpriced Reason) map[string]Quote {
	quotes := make(map[string]Quote, len(ids))
	for _, id := range ids {
		q := Quote{TokenID: id}
		_, known := tokens[id]
		old, isStored := stored[id]
		p, isFetched := fetched[id]
		switch {
		case !known:
			q.Reason = UnknownToken
		case isFetched && (!isStored || p.Source != old.Source || !p.At.Before(old.At)):
			q.Price = p
		case isStored:
			q.Price = old.Price
		default:
			q.Reason = unpriced
		}
		quotes[id] = q
	}
	return quotes
}
