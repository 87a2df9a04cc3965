package store_test

import (
	"testing"

	"github.com/google/uuid"
)

func TestAPortfolioIsDueUntilItsSnapshotIsComplete(t *testing.T) {
	f := newFixture(t, noRedis)
	portfolios := f.portfolios(t)
	owners := []uuid.UUID{f.p.Owner, uuid.New()} // the second has no portfolio
	for range 3 {
		p, err := portfolios.FindOrCreateDefault(t.Context(), newDefault(uuid.New()))
		if err != nil {
			t.Fatal(err)
		}
		owners = append(owners, p.Owner)
	}
	if _, err := portfolios.FindOrCreateDefault(t.Context(), newDefault(uuid.New())); err != nil { // not asked for
		t.Fatal(err)
	}
	due := func(bucket int) map[uuid.UUID]int {
		list, err := portfolios.DueForSnapshot(t.Context(), hour(bucket), owners)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[uuid.UUID]int{}
		for _, p := range list {
			seen[p.ID]++
		}
		return seen
	}
	if all := due(0); len(all) != 4 || all[f.p.ID] != 1 {
		t.Fatalf("%d are due, ours %d times", len(all), all[f.p.ID])
	}
	if _, _, err := f.Save(t.Context(), f.p, hour(0), value(t, "1", false)); err != nil {
		t.Fatal(err)
	}
	if all := due(0); len(all) != 4 {
		t.Error("one whose snapshot is incomplete is not due")
	}
	if _, _, err := f.Save(t.Context(), f.p, hour(0), value(t, "2", true)); err != nil {
		t.Fatal(err)
	}
	if all := due(0); len(all) != 3 || all[f.p.ID] != 0 {
		t.Errorf("%d are due, ours %d times, with a complete snapshot", len(all), all[f.p.ID])
	}
	if all := due(1); len(all) != 4 {
		t.Errorf("%d are due in the next hour", len(all))
	}
}
