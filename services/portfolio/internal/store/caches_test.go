package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/store"
)

// replica returns another replica on the same database and Redis.
func (f fixture) replica(t testing.TB) fixture {
	t.Helper()
	f.Snapshots = store.NewSnapshots(f.db.DB, f.caches(t))
	return f
}

// closes returns as text the last value before bounds, and that of each interval
// between them.
func (f fixture) closes(t *testing.T, p portfolio.Portfolio, bounds ...time.Time) string {
	t.Helper()
	h, err := f.Aggregate(t.Context(), p, bounds, "")
	if err != nil {
		t.Fatal(err)
	}
	text := ""
	if h.Before != nil {
		text = h.Before.Total + " then"
	}
	for _, b := range h.Intervals {
		text += fmt.Sprintf(" %d: %s", b.Index, b.Close)
	}
	return text
}

func TestASnapshotIsOnEveryPageOfItsPortfolioAtOnce(t *testing.T) {
	f := newFixture(t, testkit.Redis(t).URL())
	other := f.replica(t)
	otherUser, err := f.portfolios(t).FindOrCreateDefault(t.Context(), newDefault(uuid.New()))
	if err != nil {
		t.Fatal(err)
	}
	pages := [][]time.Time{{hour(0), hour(1), hour(2)}, {hour(0), hour(2)}, {hour(1), hour(2)}}
	check := func(when string, want ...string) {
		t.Helper()
		for i, bounds := range pages {
			for name, s := range map[string]fixture{"the writer": f, "the other": other, "the writer again": f} {
				if got := s.closes(t, f.p, bounds...); got != want[i] {
					t.Errorf("%s: page %d of %s has %q, want %q", when, i, name, got, want[i])
				}
			}
		}
		if got := other.closes(t, otherUser, hour(0), hour(2)); got != "" {
			t.Errorf("%s: another user's has %q", when, got)
		}
	}
	const one, two = "23.15841785", "46.31683569"
	check("at first", "", "", "")
	f.save(t, hour(0), value(t, "1", false))
	check("after the first", " 0: "+one, " 0: "+one, one+" then")
	f.save(t, hour(0), value(t, "2", true))
	check("after a better one", " 0: "+two, " 0: "+two, two+" then")
	before := f.count(t, "SELECT count(*) FROM cache_invalidations")
	if f.save(t, hour(0), value(t, "3", true)) || f.count(t, "SELECT count(*) FROM cache_invalidations") != before {
		t.Error("a snapshot that isn't stored invalidates")
	}
	f.save(t, hour(1), value(t, "1", true))
	check("after the second", " 0: "+two+" 1: "+one, " 0: "+one, two+" then 0: "+one)
	// The control: a change without an invalidation is not seen.
	if _, err := f.db.SQL().ExecContext(t.Context(), "UPDATE snapshots SET total = 0"); err != nil {
		t.Fatal(err)
	}
	check("after a change without an invalidation", " 0: "+two+" 1: "+one, " 0: "+one, two+" then 0: "+one)
}

// A reader that read before a snapshot was stored, and caches after it, caches under a
// generation that is not read any more.
func TestAReaderThatASnapshotOvertakesLeavesNothingBehind(t *testing.T) {
	f := newFixture(t, testkit.Redis(t).URL())
	other := f.replica(t)
	overtaken := false
	overtake := func(tx *gorm.DB) { // after the buckets are read
		if tx.Statement.Table == "snapshots" && !overtaken {
			overtaken = true
			other.save(t, hour(0), value(t, "1", true))
		}
	}
	if err := f.db.Gorm(t.Context()).Callback().Query().After("gorm:query").Register("overtake",
		overtake); err != nil {
		t.Fatal(err)
	}
	if got := f.closes(t, f.p, hour(0), hour(1)); got != "" {
		t.Fatalf("the reader has %q: it was not overtaken", got)
	}
	for name, s := range map[string]fixture{"its own replica": f, "the other": other} {
		if got := s.closes(t, f.p, hour(0), hour(1)); got != " 0: 23.15841785" {
			t.Errorf("later %s answers %q", name, got)
		}
	}
}

func TestAPortfolioIsReadOnce(t *testing.T) {
	f := newFixture(t, testkit.Redis(t).URL())
	s, other := f.portfolios(t), f.portfolios(t)
	for _, p := range []*store.Portfolios{s, other} {
		got, err := p.ByID(t.Context(), f.p.Owner, f.p.ID)
		if err != nil || got.ID != f.p.ID || got.Owner != f.p.Owner || got.Name != f.p.Name || !got.Default ||
			!got.CreatedAt.Equal(f.p.CreatedAt) {
			t.Fatalf("%+v, %v", got, err)
		}
		if _, err := f.db.SQL().ExecContext(t.Context(),
			"UPDATE portfolios SET name = 'past the service'"); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := s.FindOrCreateDefault(t.Context(), newDefault(f.p.Owner)); err != nil || got.ID != f.p.ID {
		t.Errorf("the default one: %+v, %v", got, err)
	}
}
