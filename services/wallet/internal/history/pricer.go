package history

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/deadline"
	"github.com/purserhq/purser/services/wallet/internal/price"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

// priceResult is the result of priceMissing.
type priceResult struct {
	requested bool // the source was asked
	saved     int  // prices that were stored
	timedOut  bool // some are missing because time ran out
}

// mayReturn reports whether the hours may be returned with the prices that are
// stored now; missing prices are returned as unavailable.
//
// If time ran out, the hours are left to the next call when this call made
// progress: it stored prices, or balances if the source was not asked, or it has
// other hours to return. Without progress they are returned, so that a source
// that never answers can't block the balances forever.
func (r priceResult) mayReturn(sofar progress) bool {
	if !r.timedOut {
		return true
	}
	stored := sofar.saved
	if r.requested {
		stored = r.saved > 0
	}
	return !stored && !sofar.returned
}

// priceMissing reads the missing prices of a span until the price deadline, and
// stores them. It acquires the owner's lock if there are any. An error of the
// source is logged and not returned: its prices are unavailable until a later
// call reads them.
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
	history, sourceErr := RequestPrices(limited, s.prices, s.policy, missing)
	timedOut := sourceErr != nil && limited.Err() != nil
	prices := PricesAt(missing, history, s.policy.Bridge)
	if err := errors.Join(s.savePrices(ctx, prices, now), ctx.Err()); err != nil {
		return priceResult{}, err
	}
	if sourceErr != nil {
		s.log.WarnContext(ctx, "price source failed", "error", sourceErr)
	}
	return priceResult{requested: true, saved: len(prices), timedOut: timedOut}, nil
}

// RequestPrices requests the prices of all tokens from the source: from the age at
// which they are stale before the first hour until the last one, and, of tokens that
// lack some then, also of the time that may be bridged. The hours are in order.
func RequestPrices(ctx context.Context, src PriceSource, policy price.Policy,
	hours []TokenHour) (map[string][]price.Price, error) {
	tokens := map[string]token.Token{}
	for _, h := range hours {
		tokens[h.Token.ID] = h.Token
	}
	from := hours[0].Hour.Add(-policy.Stale).Truncate(time.Hour)
	count := int(hours[len(hours)-1].Hour.Sub(from)/time.Hour) + 1
	known, err := src.History(ctx, slices.Collect(maps.Values(tokens)), from, count)
	for id := range known {
		known[id] = price.WithoutJumps(known[id])
	}
	if err != nil || policy.Bridge <= policy.Stale {
		return known, err
	}
	lacking := map[string]token.Token{}
	for _, h := range hours {
		if _, ok := price.LastAt(known[h.Token.ID], h.Hour, policy.Bridge); !ok {
			lacking[h.Token.ID] = h.Token
		}
	}
	if len(lacking) == 0 {
		return known, nil
	}
	earliest := hours[0].Hour.Add(-policy.Bridge).Truncate(time.Hour)
	before, err := src.History(ctx, slices.Collect(maps.Values(lacking)), earliest,
		int(from.Sub(earliest)/time.Hour))
	for id := range lacking {
		if prices, read := before[id]; read {
			known[id] = append(price.WithoutJumps(prices), known[id]...)
		} else {
			delete(known, id) // what it lacks is not known to be missing
		}
	}
	return known, err
}

// PricesAt returns the price of each token at its hour, without the tokens that
// have no entry in history.
func PricesAt(hours []TokenHour, history map[string][]price.Price, maxAge time.Duration) []HourPrice {
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

// savePrices stores prices, also for a moment after ctx has ended.
func (s *Service) savePrices(ctx context.Context, prices []HourPrice, fetchedAt time.Time) error {
	finishing, cancel := deadline.Grace(ctx, writeGrace)
	defer cancel()
	return s.store.SavePrices(finishing, prices, fetchedAt)
}
