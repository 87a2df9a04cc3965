package store_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/pgserver"
	"github.com/purserhq/purser/services/portfolio/internal/store"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
	"github.com/purserhq/purser/services/portfolio/migrations"
)

// Whatever reads snapshots reads the same from a streaming replica, which takes no writes: no read hides one. The
// control is a write.
func TestSnapshotsAreReadFromAStreamingReplica(t *testing.T) {
	primary, err := pgserver.Start(t.Context(), pgserver.Options{InMemory: true})
	if err != nil {
		t.Fatal(err)
	}
	stop := func(s *pgserver.Server) {
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(func() { stop(primary) })
	standby, err := pgserver.StartStandby(t.Context(), primary, pgserver.Options{InMemory: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(standby) })
	open := func(s *pgserver.Server) *postgres.DB {
		t.Helper()
		db, err := postgres.Open(t.Context(), postgres.Options{URL: s.URL("postgres"), Name: "replicated"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		return db
	}
	f := fixture{db: &testkit.DB{DB: open(primary)}, url: noRedis}
	if err := postgres.Migrate(t.Context(), f.db.DB, migrations.FS); err != nil {
		t.Fatal(err)
	}
	f.Snapshots = store.NewSnapshots(f.db.DB, f.caches(t))
	if f.p, err = f.portfolios(t).FindOrCreateDefault(t.Context(), newDefault(uuid.New())); err != nil {
		t.Fatal(err)
	}
	var hours []valuation.Valuation
	for n := range 48 {
		hours = append(hours, valued(t, hour(n), holding("a", 5, "2", ""), holding("b", int64(1+n/7), "1", "")))
	}
	if _, err := f.SaveBackfilled(t.Context(), f.p, hours); err != nil {
		t.Fatal(err)
	}
	read := func(s *store.Snapshots) string {
		t.Helper()
		ctx, bounds := t.Context(), []time.Time{hour(0), hour(24), hour(48)}
		aggregates, err := s.Aggregate(ctx, f.p, bounds, "")
		if err != nil {
			t.Fatal(err)
		}
		euros, err := s.Aggregate(ctx, f.p, bounds, "EUR")
		if err != nil {
			t.Fatal(err)
		}
		marks, err := s.Marks(ctx, f.p.ID, hour(0), hour(48), bounds)
		if err != nil {
			t.Fatal(err)
		}
		list, err := s.List(ctx, f.p.ID, time.Time{}, 100)
		if err != nil {
			t.Fatal(err)
		}
		last, err := s.LastSnapshot(ctx, f.p.ID, hour(40))
		if err != nil {
			t.Fatal(err)
		}
		positions, err := s.PositionsAt(ctx, f.p.ID, bounds[:2])
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(len(aggregates.Intervals), aggregates.Intervals, len(euros.Intervals), len(marks.Marks),
			len(list), last.Total, len(last.Positions), len(positions))
	}
	want := read(f.Snapshots)
	replica := store.NewSnapshots(open(standby), f.caches(t))
	testkit.Eventually(t, time.Minute, func() bool {
		n, _, err := replica.CountRows(t.Context(), f.p.ID, hour(0), hour(48))
		return err == nil && n == 48
	})
	if got := read(replica); got != want {
		t.Errorf("the replica has\n%s\nand the primary\n%s", got, want)
	}
	if _, err := replica.SaveBackfilled(t.Context(), f.p, hours); err == nil {
		t.Error("the replica takes writes")
	}
}
