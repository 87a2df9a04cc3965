// Package pricehistory lists what tokens and currencies were worth at the start of past
// hours. What is not stored is read on request and stored.
//
// It promises: every hour of a page has a price or the reason why it has none; what was
// read is stored and not read again, except for what the sources did not have, or may not
// have had yet; equal readings are made once at a time; a page is returned within a
// bounded time, with what could not be read by then as SOURCE_UNAVAILABLE. A price is
// converted by the rate of its own hour.
package pricehistory

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/purserhq/purser/pkg/deadline"
	"github.com/purserhq/purser/services/wallet/internal/history"
	"github.com/purserhq/purser/services/wallet/internal/price"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

// Hour is a stored hour of a token or currency.
type Hour struct {
	TokenID string
	Hour    time.Time
	// Price is zero when the sources had none.
	price.Price
	FetchedAt time.Time
	// Final: the sources add no later price for the hour.
	Final bool
}

// Undecided reports whether an import may have changed the price, and the sources could not be asked since.
func (h Hour) Undecided() bool { return h.FetchedAt.Equal(time.Unix(0, 0)) }

// Store has the prices of past hours.
type Store interface {
	// PriceHours returns those hours in [from, until) that are stored.
	PriceHours(ctx context.Context, ids []string, from, until time.Time) ([]Hour, error)
	// SavePrices stores prices. A price the sources don't have is stored as missing, and
	// never replaces a stored price.
	SavePrices(ctx context.Context, prices []history.HourPrice, fetchedAt time.Time) error
}

// Quote is the price at an hour.
type Quote struct {
	Hour time.Time
	price.Quote
	// Rate of the currency at the hour.
	Rate price.Rate
}

// Service lists prices. It is safe for concurrent use.
type Service struct {
	store   Store
	sources history.PriceSource
	policy  price.Policy
	log     *slog.Logger
	now     func() time.Time
	reads   singleflight.Group
}

// NewService returns the rules over a store and sources.
func NewService(s Store, src history.PriceSource, p price.Policy, log *slog.Logger, now func() time.Time) *Service {
	return &Service{store: s, sources: src, policy: p, log: log, now: now}
}

const (
	// readBudget is how long a call reads from the sources, and readShare the share of its
	// own time that this may take.
	readBudget, readShare = 6 * time.Second, 0.5
	// writeTimeout bounds the storing of what was read, also after the call has ended: a
	// database that is only slow is waited for, or the sources would be asked again and again.
	writeTimeout = 30 * time.Second
	// retryAfter is after how long what the sources did not have is asked for again.
	retryAfter = 10 * time.Minute
)

// Query is a page of hours.
type Query struct {
	Token token.Token
	// Currency is a currency or token to convert to; nil for US dollars.
	Currency *token.Token
	// From and Until are full hours; Until is not on the page.
	From, Until time.Time
	// MayRead is asked before the sources are, and returns an error for a caller who may
	// not now.
	MayRead func(context.Context) error
}

// List returns a quote for each hour of the page. The error is that of MayRead, or of the
// store.
func (s *Service) List(ctx context.Context, q Query) ([]Quote, error) {
	tokens := []token.Token{q.Token}
	if q.Currency != nil && q.Currency.ID != q.Token.ID {
		tokens = append(tokens, *q.Currency)
	}
	stored, err := s.stored(ctx, tokens, q)
	if err != nil {
		return nil, err
	}
	if missing := s.missing(tokens, q, stored); len(missing) > 0 {
		if err := q.MayRead(ctx); err != nil {
			return nil, err
		}
		if err := s.read(ctx, tokens, q, missing); err != nil {
			return nil, err
		}
		if stored, err = s.stored(ctx, tokens, q); err != nil {
			return nil, err
		}
	}
	var out []Quote
	for hour := q.From; hour.Before(q.Until); hour = hour.Add(time.Hour) {
		one := Quote{Hour: hour, Quote: s.quote(q.Token, hour, stored)}
		if q.Currency != nil {
			one.Rate = price.RateOf(s.quote(*q.Currency, hour, stored))
		}
		out = append(out, one)
	}
	return out, nil
}

type place struct {
	id   string
	hour int64
}

func (s *Service) stored(ctx context.Context, tokens []token.Token, q Query) (map[place]Hour, error) {
	ids := make([]string, len(tokens))
	for i, t := range tokens {
		ids[i] = t.ID
	}
	hours, err := s.store.PriceHours(ctx, ids, q.From, q.Until)
	if err != nil {
		return nil, err
	}
	out := make(map[place]Hour, len(hours))
	for _, h := range hours {
		out[place{h.TokenID, h.Hour.Unix()}] = h
	}
	return out, nil
}

// missing returns the hours to ask the sources for, in order.
func (s *Service) missing(tokens []token.Token, q Query, stored map[place]Hour) []history.TokenHour {
	var out []history.TokenHour
	before := s.now().Add(-retryAfter)
	for hour := q.From; hour.Before(q.Until); hour = hour.Add(time.Hour) {
		for _, t := range tokens {
			h, has := stored[place{t.ID, hour.Unix()}]
			if !has || !h.Final && h.FetchedAt.Before(before) {
				out = append(out, history.TokenHour{Token: t, Hour: hour})
			}
		}
	}
	return out
}

// read asks the sources and stores what they say. Calls for the same page wait for one
// reading. A failure of the sources is logged: their hours stay missing.
func (s *Service) read(ctx context.Context, tokens []token.Token, q Query, missing []history.TokenHour) error {
	ctx, cancel := deadline.Share(ctx, readShare, readBudget)
	defer cancel()
	key := []string{q.From.String(), q.Until.String()}
	for _, t := range tokens {
		key = append(key, t.ID)
	}
	done := s.reads.DoChan(strings.Join(key, " "), func() (any, error) {
		return nil, s.readMissing(context.WithoutCancel(ctx), missing)
	})
	select {
	case r := <-done:
		return r.Err
	case <-ctx.Done():
		return nil // others may wait for it, and it is stored
	}
}

func (s *Service) readMissing(ctx context.Context, missing []history.TokenHour) error {
	limited, cancel := context.WithTimeout(ctx, readBudget)
	defer cancel()
	now := s.now()
	found, failed := history.RequestPrices(limited, s.sources, s.policy, missing)
	if failed != nil {
		s.log.WarnContext(ctx, "price source failed", "error", failed)
	}
	ctx, cancelWrite := context.WithTimeout(ctx, writeTimeout)
	defer cancelWrite()
	err := s.store.SavePrices(ctx, history.PricesAt(missing, found, s.policy.Bridge), now)
	if err != nil { // nobody may wait for it any more
		s.log.WarnContext(ctx, "prices could not be stored", "error", err)
	}
	return err
}

// quote returns the price of a token at an hour.
func (s *Service) quote(t token.Token, hour time.Time, stored map[place]Hour) price.Quote {
	q := price.Quote{TokenID: t.ID}
	h, has := stored[place{t.ID, hour.Unix()}]
	switch {
	case !has || h.Undecided():
		q.Reason = price.SourceUnavailable
	case h.Value == "":
		q.Reason = price.NoPrice
	default:
		q.Price, q.Stale = h.Price, h.StaleAt(hour, s.policy.Stale)
	}
	return q
}
