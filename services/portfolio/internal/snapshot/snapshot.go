// Package snapshot stores the hourly history of a portfolio's value.
//
// It promises:
//   - There is one snapshot an hour (UTC), however often one is taken.
//   - A complete snapshot replaces an incomplete one, and an incomplete one replaces
//     another that lacks more. A snapshot of other wallets than the portfolio has in that
//     hour is out of date, and not complete; any one of the right wallets replaces it.
//     Nothing else is ever replaced, unless a caller recomputes it.
//   - All snapshots of an hour have the same price of a token: the first one that was
//     stored, unless it is stale or missing and a later snapshot brings a better one.
//     That one then has it, and those before keep theirs.
//   - Nothing is stored while the wallet service, a chain or the price feed is
//     unavailable; in particular no zero.
package snapshot

import (
	"context"
	"log/slog"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/portfolio/internal/currency"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// Snapshot is the value of a portfolio in one hour.
type Snapshot struct {
	Portfolio uuid.UUID
	// Bucket is the start of the hour, UTC.
	Bucket time.Time
	// SnapshotTime is the moment of the value: Bucket itself when Backfilled.
	SnapshotTime time.Time
	// Total is Assets less Liabilities.
	Total, Liabilities *apd.Decimal
	// Collateral is the part of the assets that secures debts, whether there are any or not.
	Collateral *apd.Decimal
	// Complete and not OutOfDate.
	Complete bool
	// OutOfDate: it is of other wallets than the portfolio has in this hour.
	OutOfDate bool
	// Positions and Unpriced are how many positions there are, and how many have no
	// price.
	Positions, Unpriced int
	// Backfilled when it was taken after its hour, from the balances and prices of
	// that time.
	Backfilled bool
	// NetFlow is what came in since the measurable snapshot before, less what went
	// out; nil if there is none, or if this one isn't measurable.
	NetFlow *apd.Decimal
	// PriceGap: a verified token has no price, but in an hour before and in one after,
	// at most MaxPriceGap apart. Total is too low by it.
	PriceGap bool
}

// In returns the snapshot with its values in the rate's currency. Without a rate it has none; without one, and with a
// stale one, it isn't complete.
func (s Snapshot) In(r currency.Rate) (Snapshot, error) {
	if !r.Known() {
		s.Total, s.Liabilities, s.Collateral, s.NetFlow, s.Complete = nil, nil, nil, nil, false
		return s, nil
	}
	var err error
	if s.Liabilities, err = r.Convert(s.Liabilities); err != nil {
		return s, err
	}
	if s.Collateral, err = r.Convert(s.Collateral); err != nil {
		return s, err
	}
	if s.Total, err = r.Convert(s.Total); err != nil {
		return s, err
	}
	s.NetFlow, err = r.Convert(s.NetFlow)
	s.Complete = s.Complete && !r.Stale
	return s, err
}

// Assets returns the total and the liabilities together; nil without a total.
func (s Snapshot) Assets() (*apd.Decimal, error) {
	if s.Total == nil {
		return nil, nil //nolint:nilnil // an hour without a rate has none
	}
	return valuation.Sum(s.Total, s.Liabilities)
}

// MaxPriceGap is how far apart the hours before and after a price gap may be. A token that
// has no price for longer was outside of the portfolio meanwhile.
const MaxPriceGap = 7 * 24 * time.Hour

// Valued is a portfolio with its value.
type Valued struct {
	Portfolio portfolio.Portfolio
	Valuation valuation.Valuation
}

// Store stores snapshots.
type Store interface {
	// Save stores a valuation as the snapshot of a bucket, unless the bucket has one
	// that is at least as good. It returns the bucket's snapshot, and whether that is
	// the new one.
	//
	// One with the membership that is valid in the bucket is better than one that is out of
	// date, which replaces nothing. A complete snapshot is better than an incomplete one. Of two incomplete ones
	// the better one has fewer incomplete wallets; with as many of them, fewer
	// unpriced positions; with as many of those too, fewer stale prices.
	Save(ctx context.Context, p portfolio.Portfolio, bucket time.Time, v valuation.Valuation) (Snapshot, bool, error)
	// Complete returns the snapshot of a bucket if it is complete and of this membership,
	// and otherwise nil.
	Complete(ctx context.Context, portfolio uuid.UUID, bucket time.Time, membership int) (*Snapshot, error)
	// SaveBackfilled stores valuations of full hours, which are in order, by the rule
	// of Save. It stores all that are better or, with an error, none, and returns
	// those that it stored, oldest first.
	SaveBackfilled(ctx context.Context, p portfolio.Portfolio, hours []valuation.Valuation) ([]Snapshot, error)
	// ReplaceHours is SaveBackfilled that also replaces snapshots that are as good.
	ReplaceHours(ctx context.Context, p portfolio.Portfolio, hours []valuation.Valuation) ([]Snapshot, error)
	// SaveHour stores valuations of different portfolios as the snapshots of one bucket, by
	// the rule of Save, all or none. It leaves out portfolios that don't exist any more, and
	// returns how many it stored. All have the same price of a token (AdoptPrices).
	SaveHour(ctx context.Context, bucket time.Time, values []Valued) (stored int, err error)
	// MissingHours returns up to limit hours at or after first and before until that
	// have no complete snapshot, oldest first. Hours in which the portfolio has no wallets
	// are among them only if they have a snapshot that is out of date.
	MissingHours(ctx context.Context, portfolio uuid.UUID, first, until time.Time, limit int) ([]time.Time, error)
	// OutOfDateHours returns up to limit hours at or after first and before until whose
	// snapshot is out of date, oldest first.
	OutOfDateHours(ctx context.Context, portfolio uuid.UUID, first, until time.Time, limit int) ([]time.Time, error)
	// AdoptPrices sets the prices of assets to those of their hours, which all snapshots have,
	// and makes theirs the prices of the hours where those have none, or a worse one.
	AdoptPrices(ctx context.Context, hours []valuation.Assets) error
	// MendPrices is AdoptPrices that also makes prices those of the hours that are as good as theirs and differ, as
	// after a mistake of a source was mended.
	MendPrices(ctx context.Context, hours []valuation.Assets) error
	// List returns up to limit snapshots of buckets before this one, newest first.
	List(ctx context.Context, portfolio uuid.UUID, before time.Time, limit int) ([]Snapshot, error)
}

// Holdings reads what a portfolio holds now; *portfolio.Service implements it.
type Holdings interface {
	Assets(ctx context.Context, p portfolio.Portfolio) (valuation.Assets, error)
	// Memberships returns which wallets the portfolio has from first to last, compared with
	// those that its owner has now.
	Memberships(ctx context.Context, p portfolio.Portfolio, first, last time.Time) (portfolio.Memberships, error)
}

// Service takes, backfills and lists snapshots. It is safe for concurrent use.
type Service struct {
	store    Store
	holdings Holdings
	history  HistoryReader
	log      *slog.Logger
	now      func() time.Time
}

// NewService returns the service. Backfill needs a HistoryReader.
func NewService(s Store, current Holdings, h HistoryReader, log *slog.Logger, now func() time.Time) *Service {
	return &Service{store: s, holdings: current, history: h, log: log, now: now}
}

// Take values the portfolio and stores it as the current hour's snapshot. It
// returns the hour's snapshot, and false if that is an earlier one that is at least
// as good.
//
// It stores nothing with errs.Unavailable: WALLET_UNAVAILABLE, PRICES_UNAVAILABLE
// or WALLETS_NOT_SYNCED.
//
// A call that can change nothing, since the hour's snapshot is complete and of the wallets
// of now, begins no transaction and waits for no lock.
func (s *Service) Take(ctx context.Context, p portfolio.Portfolio) (Snapshot, bool, error) {
	assets, err := s.holdings.Assets(ctx, p)
	if err != nil {
		return Snapshot{}, false, err
	}
	stored, err := s.store.Complete(ctx, p.ID, assets.At.UTC().Truncate(time.Hour), assets.Membership)
	if err != nil {
		return Snapshot{}, false, err
	}
	if stored != nil {
		return *stored, false, nil
	}
	if err := s.store.AdoptPrices(ctx, []valuation.Assets{assets}); err != nil {
		return Snapshot{}, false, err
	}
	v, err := assets.Value()
	if err != nil {
		return Snapshot{}, false, err
	}
	if err := rejectUnknownZero(v); err != nil {
		return Snapshot{}, false, err
	}
	return s.store.Save(ctx, p, v.ValuationTime.UTC().Truncate(time.Hour), v)
}

// rejectUnknownZero returns an error for a total of zero that is incomplete: it may
// be zero only because balances or prices are missing.
func rejectUnknownZero(v valuation.Valuation) error {
	switch {
	case !isZero(v) || v.Complete():
		return nil
	case v.UnsyncedWallets > 0:
		return errs.Unavailable("WALLETS_NOT_SYNCED",
			"a wallet of the portfolio was never synced, and the others hold nothing of value; sync it first")
	default:
		return errs.Unavailable("PRICES_UNAVAILABLE", "nothing that the portfolio holds has a price")
	}
}

// isZero reports whether nothing of value is known; a total of assets that are as much as the liabilities is none.
func isZero(v valuation.Valuation) bool { return v.Assets.IsZero() && v.Liabilities.IsZero() }

// List returns up to limit snapshots of buckets before this one, newest first.
func (s *Service) List(ctx context.Context, portfolio uuid.UUID, before time.Time, limit int) ([]Snapshot, error) {
	return s.store.List(ctx, portfolio, before, limit)
}
