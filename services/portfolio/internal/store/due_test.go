package store_test

import (
	"testing"

	"github.com/google/uuid"
)

func TestEveryPortfolioIsDueInOneShardUntilItsSnapshotIsComplete(t *testing.T) {
	f := newFixture(t, noRedis)
	portfolios := f.portfolios(t)
	for range 39 {
		if _, err := portfolios.FindOrCreateDefault(t.Context(), newDefault(uuid.New())); err != nil {
			t.Fatal(err)
		}
	}
	due := func(bucket int) map[uuid.UUID]int {
		seen := map[uuid.UUID]int{}
		for shard := range 4 {
			for after := uuid.Nil; ; {
				page, err := portfolios.DueForSnapshot(t.Context(), hour(bucket), shard, 4, after, 3)
				if err != nil {
					t.Fatal(err)
				}
				for _, p := range page {
					seen[p.ID]++
					after = p.ID
				}
				if len(page) < 3 {
					break
				}
			}
		}
		return seen
	}
	if all := due(0); len(all) != 40 || all[f.p.ID] != 1 {
		t.Fatalf("%d are due, ours %d times", len(all), all[f.p.ID])
	}
	if _, _, err := f.Save(t.Context(), f.p, hour(0), value(t, "1", false)); err != nil {
		t.Fatal(err)
	}
	if all := due(0); len(all) != 40 {
		t.Error("one whose snapshot is incomplete is not due")
	}
	if _, _, err := f.Save(t.Context(), f.p, hour(0), value(t, "2", true)); err != nil {
		t.Fatal(err)
	}
	if all := due(0); len(all) != 39 || all[f.p.ID] != 0 {
		t.Errorf("%d are due, ours %d times, with a complete snapshot", len(all), all[f.p.ID])
	}
	if all := due(1); len(all) != 40 {
		t.Errorf("%d are due in the next hour", len(all))
	}
}
