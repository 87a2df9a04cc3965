// Package portfolio finds and values portfolios: named sets of wallets. Every user
// has one default portfolio, which holds all of their wallets.
package portfolio

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/timerange"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// DefaultName is the name of a default portfolio.
const DefaultName = "All wallets"

// Portfolio is a named set of wallets.
type Portfolio struct {
	ID        uuid.UUID
	Owner     uuid.UUID
	Name      string
	Default   bool
	CreatedAt time.Time
	// UpdatedAt and Version change with the name and the wallets. Version is 1 at first.
	UpdatedAt time.Time
	Version   int64
}

// Store stores portfolios. Every method takes the owner: another user's portfolio
// is as one that doesn't exist.
type Store interface {
	// ByID returns errs.NotFound for a portfolio that doesn't exist or is another
	// owner's.
	ByID(ctx context.Context, owner, id uuid.UUID) (Portfolio, error)
	// FindOrCreateDefault returns the default portfolio of p.Owner, which it creates
	// as p if there is none.
	FindOrCreateDefault(ctx context.Context, p Portfolio) (Portfolio, error)
	// Entry is where ByID, or FindOrCreateDefault for uuid.Nil, finds a portfolio in the cache.
	Entry(owner, id uuid.UUID) cache.Entry
	MembershipStore
}

// Snapshots gives valuations of the past.
type Snapshots interface {
	// LastSnapshot returns the newest snapshot of at most a time with its positions,
	// errs.NotFound when there is none.
	LastSnapshot(ctx context.Context, portfolio uuid.UUID, until time.Time) (valuation.Valuation, error)
}

// Holdings reads what wallets hold.
type Holdings interface {
	// Current returns what the owner's wallets hold now, errs.Unavailable while it
	// can't be read.
	Current(ctx context.Context, owner uuid.UUID) ([]valuation.Wallet, []valuation.Holding, error)
	// MayRead reports whether the caller may read holdings. One who may not doesn't
	// get a cached valuation that was computed for another token of the same user.
	MayRead(ctx context.Context) bool
}

// Service finds and values portfolios. It is safe for concurrent use.
type Service struct {
	store     Store
	snapshots Snapshots
	holdings  Holdings
	cache     *cache.Cache[valuation.Valuation]
	defaults  *lru.Cache[uuid.UUID, uuid.UUID] // the default portfolios of owners, as they were found last
	now       func() time.Time
}

// knownDefaults is how many default portfolios a process remembers, some 2 MB at most.
const knownDefaults = 10_000

// NewService returns the service. It caches complete valuations in c; nil for no
// cache.
func NewService(s Store, snaps Snapshots, h Holdings, c *cache.Cache[valuation.Valuation],
	now func() time.Time) *Service {
	defaults, _ := lru.New[uuid.UUID, uuid.UUID](knownDefaults) // the error is for less than one
	return &Service{store: s, snapshots: snaps, holdings: h, cache: c, defaults: defaults, now: now}
}

// Find returns the owner's portfolio with this id, or the default portfolio for
// uuid.Nil, which is created on first use. It returns errs.NotFound for a portfolio
// of another owner.
func (s *Service) Find(ctx context.Context, owner, id uuid.UUID) (Portfolio, error) {
	if id != uuid.Nil {
		return s.store.ByID(ctx, owner, id)
	}
	newID, err := uuid.NewV7()
	if err != nil {
		return Portfolio{}, fmt.Errorf("new portfolio id: %w", err)
	}
	p, err := s.store.FindOrCreateDefault(ctx, Portfolio{
		ID: newID, Owner: owner, Name: DefaultName, Default: true,
		CreatedAt: s.now().UTC().Truncate(time.Microsecond),
	})
	if err == nil {
		s.defaults.Add(owner, p.ID)
	}
	return p, err
}

// ReadAhead returns a context with which Find of this portfolio, uuid.Nil for the default one, and then
// ValueOrLastSnapshot ask the cache once.
func (s *Service) ReadAhead(ctx context.Context, owner, id uuid.UUID) context.Context {
	valued := id
	if id == uuid.Nil {
		valued, _ = s.defaults.Get(owner)
	}
	if s.cache == nil || valued == uuid.Nil {
		return ctx
	}
	return cache.ReadAhead(ctx, s.store.Entry(owner, id), s.cache.Entry(CacheKey(owner, valued)))
}

// Value computes what a portfolio is worth now, without the cache. It returns
// errs.Unavailable (WALLET_UNAVAILABLE) while the holdings can't be read.
func (s *Service) Value(ctx context.Context, p Portfolio) (valuation.Valuation, error) {
	assets, err := s.Assets(ctx, p)
	if err != nil {
		return valuation.Valuation{}, err
	}
	return assets.Value()
}

// ValueOrLastSnapshot returns what a portfolio is worth now, from the cache if it
// is there. While the holdings can't be read it returns the last snapshot, marked as
// stale, or the error of Value if there is no snapshot.
func (s *Service) ValueOrLastSnapshot(ctx context.Context, p Portfolio) (valuation.Valuation, error) {
	v, err := s.cachedValue(ctx, p)
	return s.orLastSnapshot(ctx, p, v, err)
}

// ValueAnew is ValueOrLastSnapshot without the cache.
func (s *Service) ValueAnew(ctx context.Context, p Portfolio) (valuation.Valuation, error) {
	v, err := s.Value(ctx, p)
	return s.orLastSnapshot(ctx, p, v, err)
}

// orLastSnapshot returns the last snapshot in place of what is unavailable.
func (s *Service) orLastSnapshot(ctx context.Context, p Portfolio, v valuation.Valuation,
	err error) (valuation.Valuation, error) {
	if !errs.Is(err, errs.KindUnavailable) {
		return v, err
	}
	last, lastErr := s.snapshots.LastSnapshot(ctx, p.ID, s.now())
	if errs.Is(lastErr, errs.KindNotFound) {
		return valuation.Valuation{}, err
	}
	if lastErr != nil {
		return valuation.Valuation{}, errors.Join(err, lastErr)
	}
	last.Stale = true
	last.IncompleteReasons = append(last.IncompleteReasons,
		"the wallet service is unavailable; this is the last snapshot")
	return last, nil
}

// ValueAt returns the last snapshot at or before a time: errs.Invalid on as_of_time for one
// in the future, errs.FailedPrecondition (NO_SNAPSHOT).
func (s *Service) ValueAt(ctx context.Context, p Portfolio, at time.Time) (valuation.Valuation, error) {
	if err := s.CheckAsOf(at); err != nil {
		return valuation.Valuation{}, err
	}
	v, err := s.snapshots.LastSnapshot(ctx, p.ID, at)
	if errs.Is(err, errs.KindNotFound) {
		return valuation.Valuation{}, errs.FailedPrecondition("NO_SNAPSHOT",
			"the portfolio has no snapshot at or before "+at.UTC().Format(time.RFC3339)+
				"; TakeSnapshot with a range fills in past hours")
	}
	return v, err
}

// CheckAsOf returns errs.Invalid for a time in the future.
func (s *Service) CheckAsOf(at time.Time) error {
	return timerange.CheckTime("as_of_time", at, timerange.Rules{Now: s.now(), Skew: timerange.ClockSkew})
}
