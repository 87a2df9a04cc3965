package portfolio

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/deadline"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// ValuationLoadTimeout is how long the cache may take to compute a valuation, for
// which several callers may wait: as long as a call may take.
const ValuationLoadTimeout = 30 * time.Second

// valuationShare is the share of the caller's remaining time that the valuation may
// take: the rest is for the last snapshot instead.
const valuationShare = 0.75

// incompleteError takes a valuation past the cache, which doesn't store errors:
// what is missing now may be there a moment later.
type incompleteError struct{ valuation valuation.Valuation }

func (incompleteError) Error() string { return "portfolio: the valuation is incomplete" }

// CacheKey is the key of a portfolio, and of its valuation, in their caches.
func CacheKey(owner, id uuid.UUID) string { return owner.String() + "/" + id.String() }

// cachedValue returns Value from the cache, and errs.Unavailable when it takes too
// much of the caller's time. The deadline is for this caller's wait: a computation
// that others wait for too goes on.
func (s *Service) cachedValue(ctx context.Context, p Portfolio) (valuation.Valuation, error) {
	if s.cache == nil || !s.holdings.MayRead(ctx) {
		return s.Value(ctx, p)
	}
	limited, cancel := deadline.Share(ctx, valuationShare, deadline.Unlimited)
	defer cancel()
	v, err := s.cache.Get(limited, CacheKey(p.Owner, p.ID),
		func(ctx context.Context) (valuation.Valuation, error) {
			v, err := s.Value(ctx, p)
			if err == nil && !v.Complete() {
				err = incompleteError{v}
			}
			return v, err
		})
	var incomplete incompleteError
	switch {
	case errors.As(err, &incomplete):
		return incomplete.valuation, nil
	case err != nil && limited.Err() != nil && ctx.Err() == nil:
		return valuation.Valuation{}, errs.Unavailable("WALLET_UNAVAILABLE",
			"the wallet service is unavailable").Because(err)
	}
	return v, err
}
