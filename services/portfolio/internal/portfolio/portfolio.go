// Package portfolio is the rules of portfolios: named sets of wallets. Every
// user has a default one that holds all of theirs.
package portfolio

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// DefaultName of the portfolio that holds all wallets.
const DefaultName = "All wallets"

// Portfolio is a named set of wallets.
type Portfolio struct {
	ID        uuid.UUID
	Owner     uuid.UUID
	Name      string
	Default   bool
	CreatedAt time.Time
}

// Store is where portfolios are kept. Every method takes the owner: a
// portfolio of somebody else does not exist.
type Store interface {
	ByID(ctx context.Context, owner, id uuid.UUID) (Portfolio, error)
	// Default returns the owner's default portfolio, made as fresh if there
	// was none.
	Default(ctx context.Context, fresh Portfolio) (Portfolio, error)
}

// Snapshots gives the last known valuation.
type Snapshots interface {
	// Last returns the newest snapshot with its positions, errs.NotFound when
	// there is none.
	Last(ctx context.Context, portfolio uuid.UUID) (valuation.Valuation, error)
}

// Holdings reads what the caller's wallets hold. The error is
// errs.Unavailable while that can't be told.
type Holdings interface {
	Of(ctx context.Context, owner uuid.UUID) ([]valuation.Wallet, []valuation.Holding, error)
	// Readable reports whether the caller may read them: one who may not is
	// not shown what was read for another token of the same user.
	Readable(ctx context.Context) bool
}

// Service is the rules.
type Service struct {
	store     Store
	snapshots Snapshots
	holdings  Holdings
	recent    *cache.Cache[valuation.Valuation]
	now       func() time.Time
}

// NewService returns the rules over a store, the snapshots and the holdings.
// recent keeps valuations for a moment; nil for none.
func NewService(s Store, snaps Snapshots, h Holdings, recent *cache.Cache[valuation.Valuation],
	now func() time.Time) *Service {
	return &Service{store: s, snapshots: snaps, holdings: h, recent: recent, now: now}
}

// Find returns the owner's portfolio with this id, or for uuid.Nil the
// default one.
func (s *Service) Find(ctx context.Context, owner, id uuid.UUID) (Portfolio, error) {
	if id != uuid.Nil {
		return s.store.ByID(ctx, owner, id)
	}
	fresh, err := uuid.NewV7()
	if err != nil {
		return Portfolio{}, fmt.Errorf("new portfolio id: %w", err)
	}
	return s.store.Default(ctx, Portfolio{
		ID: fresh, Owner: owner, Name: DefaultName, Default: true,
		CreatedAt: s.now().UTC().Truncate(time.Microsecond),
	})
}

// Value says what a portfolio is worth now, worked out anew. errs.Unavailable
// (WALLET_UNAVAILABLE) while its holdings can't be read.
func (s *Service) Value(ctx context.Context, p Portfolio) (valuation.Valuation, error) {
	wallets, holdings, err := s.holdings.Of(ctx, p.Owner)
	if err != nil {
		return valuation.Valuation{}, err
	}
	return valuation.Of(wallets, holdings, s.now().UTC())
}

// ValueOrLast is Value, of a moment ago if it is cached, or the last snapshot
// marked stale while the holdings can't be read; Value's error when there is
// none.
func (s *Service) ValueOrLast(ctx context.Context, p Portfolio) (valuation.Valuation, error) {
	v, err := s.recentValue(ctx, p)
	if !errs.Is(err, errs.KindUnavailable) {
		return v, err
	}
	last, lastErr := s.snapshots.Last(ctx, p.ID)
	if errs.Is(lastErr, errs.KindNotFound) {
		return valuation.Valuation{}, err
	}
	if lastErr != nil {
		return valuation.Valuation{}, errors.Join(err, lastErr)
	}
	last.Stale = true
	last.Reasons = append(last.Reasons, "the wallet service is away; this is the last snapshot")
	return last, nil
}
