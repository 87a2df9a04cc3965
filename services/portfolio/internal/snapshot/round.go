package snapshot

import (
	"context"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
)

// pageSize is how many portfolios a round reads at once.
const pageSize = 200

// Everybody's portfolios.
type Everybody interface {
	// Due returns those of a shard, by their ids after one, that have no
	// complete snapshot in a bucket; at most limit.
	Due(ctx context.Context, bucket time.Time, shard, shards int, after uuid.UUID, limit int) ([]portfolio.Portfolio,
		error)
}

// Round takes the hour's snapshot of everybody's portfolios, in the service's
// own name. It is safe for concurrent use.
//
// It promises: what was taken stays when a round fails, and the next attempt goes
// on with the rest. While wallet is away, or auth for longer than the service's
// token lasts, it fails and writes nothing: an hour that passes so has no
// snapshot.
type Round struct {
	everybody Everybody
	snapshots *Service
	as        func(context.Context) (context.Context, error)
	log       *slog.Logger
	now       func() time.Time
}

// NewRound returns a round; as gives a context in the service's own name.
func NewRound(e Everybody, s *Service, as func(context.Context) (context.Context, error), log *slog.Logger,
	now func() time.Time) *Round {
	return &Round{everybody: e, snapshots: s, as: as, log: log, now: now}
}

// Run takes those of one shard that are due in this hour. A portfolio without
// wallets has none taken, and one that can't be valued is passed over.
func (r *Round) Run(ctx context.Context, shard, shards int) error {
	taken, passed := 0, 0
	bucket := r.now().UTC().Truncate(time.Hour)
	for after := uuid.Nil; ; {
		due, err := r.everybody.Due(ctx, bucket, shard, shards, after, pageSize)
		if err != nil {
			return err
		}
		for _, p := range due {
			after = p.ID
			stored, err := r.take(ctx, p)
			switch {
			case err != nil:
				return err
			case stored:
				taken++
			default:
				passed++
			}
		}
		if len(due) < pageSize {
			r.log.InfoContext(ctx, "snapshots taken", "hour", bucket, "shard", shard, "taken", taken, "passed_over",
				passed)
			return nil
		}
	}
}

// take stores one; its error is what keeps the others from being taken too.
func (r *Round) take(ctx context.Context, p portfolio.Portfolio) (stored bool, err error) {
	ctx, err = r.as(ctx)
	if err != nil {
		return false, err
	}
	v, err := r.snapshots.valuer.Value(ctx, p)
	if errs.Is(err, errs.KindExhausted) { // more than can be valued
		r.log.WarnContext(ctx, "no snapshot of a portfolio", "portfolio", p.ID, "error", err)
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if v.Wallets == 0 || blind(v) != nil {
		return false, nil //nolint:nilerr // what can't be seen of one doesn't keep the others from it
	}
	_, stored, err = r.snapshots.store.Save(ctx, p, v.At.UTC().Truncate(time.Hour), v)
	return stored, err
}
