package history

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/services/wallet/internal/price"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

// priceResult is how the reading of missing prices has ended.
type priceResult struct {
	requested bool // the source was asked
	saved     int  // prices that were stored
	timedOut  bool // some are missing because the time was up
}

// mayReturn reports whether the hours may be returned with the prices that are
// stored now; the missing ones are unavailable then. If the time was up, they are
// left to the next call when that is sure to get further: when this one has
// stored something, or has other hours to return. Otherwise a source that never
// answers would withhold the balances for ever.
func (r priceResult) mayReturn(done progress) bool {
	switch {
	case !r.timedOut:
		return true
	case r.requested:
		return r.saved == 0 && !done.returned
	default:
		return !done.saved && !done.returned
	}
}

// priceMissing reads the missing prices of a span until the price deadline, and
// stores them. It takes the owner's lock if there are any. An error of the source
// is logged and not returned: its prices are unavailable, and tried again.
func (s *Service) priceMissing(ctx context.Context, owner uuid.UUID, lock *ownerLock, ends deadlines,
	sp span) (priceResult, error) {
	now := s.now()
	missing, err := s.store.MissingPrices(ctx, owner, sp.from, sp.until, now.Add(-retryAfter))
	if err != nil || len(missing) == 0 {
		return priceResult{}, err
	}
	limited, cancel := context.WithDeadline(ctx, ends.price)
	defer cancel()
	if limited.Err() != nil {
		return priceResult{timedOut: true}, ctx.Err()
	}
	if err := lock.acquire(limited); err != nil {
		return priceResult{}, err
	}
	history, sourceErr := s.requestPrices(limited, missing)
	timedOut := sourceErr != nil && limited.Err() != nil
	prices := pricesAt(missing, history, s.maxPriceAge)
	if err := errors.Join(s.savePrices(ctx, prices, now), ctx.Err()); err != nil {
		return priceResult{}, err
	}
	if sourceErr != nil {
		s.log.WarnContext(ctx, "price source failed", "error", sourceErr)
	}
	return priceResult{requested: true, saved: len(prices), timedOut: timedOut}, nil
}

// requestPrices asks the source for the prices of all tokens in all hours, which
// are in order, and for so long before that a price is not stale at the first.
func (s *Service) requestPrices(ctx context.Context, hours []TokenHour) (map[string][]price.Price, error) {
	tokens := map[string]token.Token{}
	for _, h := range hours {
		tokens[h.Token.ID] = h.Token
	}
	from := hours[0].Hour.Add(-s.maxPriceAge).Truncate(time.Hour)
	count := int(hours[len(hours)-1].Hour.Sub(from)/time.Hour) + 1
	return s.prices.History(ctx, slices.Collect(maps.Values(tokens)), from, count)
}

// pricesAt returns the price of each token at its hour, without the tokens that
// have no entry in history.
func pricesAt(hours []TokenHour, history map[string][]price.Price, maxAge time.Duration) []HourPrice {
	var prices []HourPrice
	for _, h := range hours {
		known, requested := history[h.Token.ID]
		if !requested {
			continue
		}
		p, ok := price.LastAt(known, h.Hour, maxAge)
		if !ok {
			p = price.Price{}
		}
		prices = append(prices, HourPrice{TokenHour: h, Price: p})
	}
	return prices
}

// savePrices stores prices, also after ctx has ended.
func (s *Service) savePrices(ctx context.Context, prices []HourPrice, fetchedAt time.Time) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	return s.store.SavePrices(ctx, prices, fetchedAt)
}
