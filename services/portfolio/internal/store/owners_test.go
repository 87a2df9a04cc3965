package store_test

import (
	"slices"
	"testing"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/portfolio/internal/store"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// erase erases what an owner has, transaction by transaction, and returns how many it took.
func (f fixture) erase(t *testing.T, owner uuid.UUID) (transactions int) {
	t.Helper()
	owners := store.NewOwners(f.db.DB, f.caches(t), nil)
	for more := true; more; transactions++ {
		err := cache.Change(t.Context(), f.db.DB, func(tx *gorm.DB) (stale []cache.Invalidation, err error) {
			stale, more, err = owners.EraseSome(tx, owner)
			return stale, err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return transactions
}

// A job or a backfill that began before may finish afterwards.
func TestASnapshotOfAPortfolioThatWasErasedIsNotStored(t *testing.T) {
	f := newFixture(t, noRedis)
	f.save(t, hour(1), value(t, "5", true))
	f.saveAll(t, valued(t, hour(0), in(valuation.Supplied, usdc(5)), in(valuation.Borrowed, usdc(3))))
	f.erase(t, f.p.Owner)
	_, _, err := f.Save(t.Context(), f.p, hour(2), value(t, "5", true))
	if !errs.Is(err, errs.KindNotFound) {
		t.Errorf("answered %v", err)
	}
	if _, err := f.SaveBackfilled(t.Context(), f.p, nil); err != nil {
		t.Error(err)
	}
	for _, table := range []string{"portfolios", "snapshots", "position_changes"} {
		if n := f.count(t, "SELECT count(*) FROM "+table); n != 0 {
			t.Errorf("%d rows are left in %s", n, table)
		}
	}
}

// A history of years is erased in several transactions, none of which takes long.
func TestALongHistoryIsErasedInParts(t *testing.T) {
	f := newFixture(t, noRedis)
	other, err := f.portfolios(t).FindOrCreateDefault(t.Context(), newDefault(uuid.New()))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []uuid.UUID{f.p.ID, other.ID} {
		err := f.db.Gorm(t.Context()).Exec(`INSERT INTO snapshots (portfolio_id, bucket, snapshot_time, price_seq,
			total, complete, position_count, incomplete_wallet_count, unpriced_count, stale_price_count, backfilled,
			measurable)
			SELECT ?, h, h, 0, 1, true, 0, 0, 0, 0, true, false
			FROM generate_series(timestamptz '2024-01-01', '2024-01-01 UTC'::timestamptz + interval '12000 hours',
				interval '1 hour') h`, p).Error
		if err != nil {
			t.Fatal(err)
		}
	}
	owners := store.NewOwners(f.db.DB, f.caches(t), nil)
	all, err := owners.Owners(t.Context(), uuid.Nil, 10)
	if err != nil || len(all) != 2 || !slices.Contains(all, f.p.Owner) {
		t.Fatal(all, err)
	}
	if n := f.erase(t, f.p.Owner); n < 3 {
		t.Errorf("it took %d transactions", n)
	}
	if n := f.count(t, "SELECT count(*) FROM snapshots WHERE portfolio_id <> $1", other.ID); n != 0 {
		t.Errorf("%d snapshots are left", n)
	}
	if n := f.count(t, "SELECT count(*) FROM snapshots"); n < 12000 {
		t.Errorf("somebody else has %d snapshots left", n)
	}
	all, err = owners.Owners(t.Context(), uuid.Nil, 10)
	if err != nil || !slices.Equal(all, []uuid.UUID{other.Owner}) {
		t.Error(all, err)
	}
}
