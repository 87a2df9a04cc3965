// Package snapshot keeps the hourly history of a portfolio's value.
//
// It promises: one row an hour (UTC) however often it is taken; a complete
// valuation replaces an incomplete one and never the other way round, nor does
// an incomplete one replace another unless less is missing from it; nothing is
// written while a source is away, least of all a zero.
package snapshot

import (
	"context"
	"log/slog"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// Snapshot is the value of a portfolio in one hour.
type Snapshot struct {
	Portfolio uuid.UUID
	Bucket    time.Time
	TakenAt   time.Time
	Total     *apd.Decimal
	Complete  bool
	Positions int
	Unpriced  int
	// Backfilled is one that was taken afterwards, as of Bucket.
	Backfilled bool
}

// Store is where snapshots are kept.
type Store interface {
	// Save stores a valuation in its bucket unless one that is as good is there,
	// and returns what is there now and whether it is this one. A complete one is
	// better than one that isn't. Of two that aren't the better one has fewer
	// unsound wallets, with as many of them fewer unpriced positions, and with as
	// many of those too fewer outdated ones.
	Save(ctx context.Context, p portfolio.Portfolio, bucket time.Time, v valuation.Valuation) (Snapshot, bool, error)
	// SavePast stores valuations in the buckets that they are of, as Save does
	// but all or none, and returns those that it stored, oldest first. The
	// valuations are of hours, in order.
	SavePast(ctx context.Context, p portfolio.Portfolio, hours []valuation.Valuation) ([]Snapshot, error)
	// Missing returns up to limit hours from first to before until that have no
	// complete snapshot, oldest first.
	Missing(ctx context.Context, portfolio uuid.UUID, first, until time.Time, limit int) ([]time.Time, error)
	// List returns up to limit snapshots before a bucket, newest first.
	List(ctx context.Context, portfolio uuid.UUID, before time.Time, limit int) ([]Snapshot, error)
}

// Valuer values a portfolio; *portfolio.Service is one.
type Valuer interface {
	Value(ctx context.Context, p portfolio.Portfolio) (valuation.Valuation, error)
}

// Service is the rules.
type Service struct {
	store   Store
	valuer  Valuer
	history History
	log     *slog.Logger
	now     func() time.Time
}

// NewService returns the rules.
func NewService(s Store, v Valuer, h History, log *slog.Logger, now func() time.Time) *Service {
	return &Service{store: s, valuer: v, history: h, log: log, now: now}
}

// Take values the portfolio and stores it in the bucket of that moment. The
// bool is false when a snapshot that was there was kept.
//
// errs.Unavailable with WALLET_UNAVAILABLE, PRICES_UNAVAILABLE or
// WALLETS_NOT_SYNCED: nothing is stored then.
func (s *Service) Take(ctx context.Context, p portfolio.Portfolio) (Snapshot, bool, error) {
	v, err := s.valuer.Value(ctx, p)
	if err != nil {
		return Snapshot{}, false, err
	}
	if err := blind(v); err != nil {
		return Snapshot{}, false, err
	}
	return s.store.Save(ctx, p, v.At.UTC().Truncate(time.Hour), v)
}

// blind refuses a zero that may be one only because something could not be
// seen: zero is stored when everything was.
func blind(v valuation.Valuation) error {
	switch {
	case !v.Total.IsZero() || v.Complete():
		return nil
	case v.Unsynced > 0:
		return errs.Unavailable("WALLETS_NOT_SYNCED",
			"not every wallet of the portfolio was ever synced, and the others hold nothing of value; sync them first")
	default:
		return errs.Unavailable("PRICES_UNAVAILABLE", "nothing that the portfolio holds could be priced")
	}
}

// List returns up to limit snapshots before a bucket, newest first.
func (s *Service) List(ctx context.Context, portfolio uuid.UUID, before time.Time, limit int) ([]Snapshot, error) {
	return s.store.List(ctx, portfolio, before, limit)
}
