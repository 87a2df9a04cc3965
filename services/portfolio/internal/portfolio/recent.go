package portfolio

import (
	"context"
	"errors"
	"time"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// RecentLoad bounds the working out of a valuation that several callers wait
// for: as long as a call may take.
const RecentLoad = 30 * time.Second

// reserve is the share of a caller's time that is kept back for the last
// snapshot.
const reserve = 4

// incompleteError carries a valuation past the cache, which keeps no failure:
// what is missing may be there at the next look.
type incompleteError struct{ v valuation.Valuation }

func (incompleteError) Error() string { return "portfolio: the valuation is incomplete" }

// recentValue is Value, of a moment ago if it is cached.
func (s *Service) recentValue(ctx context.Context, p Portfolio) (valuation.Valuation, error) {
	if s.recent == nil || !s.holdings.Readable(ctx) {
		return s.Value(ctx, p)
	}
	limited, cancel := spare(ctx)
	defer cancel()
	v, err := s.recent.Get(limited, p.Owner.String()+"/"+p.ID.String(),
		func(ctx context.Context) (valuation.Valuation, error) {
			v, err := s.Value(ctx, p)
			if err == nil && !v.Complete() {
				err = incompleteError{v}
			}
			return v, err
		})
	var part incompleteError
	switch {
	case errors.As(err, &part):
		return part.v, nil
	case err != nil && limited.Err() != nil && ctx.Err() == nil:
		return valuation.Valuation{}, errs.Unavailable("WALLET_UNAVAILABLE", "the wallet service is away").Because(err)
	}
	return v, err
}

// spare limits ctx so that there is time left for the last snapshot. A load
// that is shared with others doesn't end with one caller's time.
func spare(ctx context.Context) (context.Context, context.CancelFunc) {
	end, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, end.Add(-time.Until(end)/reserve))
}
