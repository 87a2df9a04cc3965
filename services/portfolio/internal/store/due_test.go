package store_test

import (
	"fmt"
	"testing"

	"github.com/google/uuid"

	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
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

// Named portfolios are due with the default one, by the wallets that they have in the hour; and one
// that has none any more is, until a snapshot says so.
func TestNamedPortfoliosAreDueByTheirWallets(t *testing.T) {
	f := newFixture(t, noRedis)
	s := f.portfolios(t)
	wallet := uuid.New()
	p, err := s.Create(t.Context(), portfolio.Portfolio{ID: uuid.Must(uuid.NewV7()), Owner: f.p.Owner, Name: "x",
		Version: 1}, []uuid.UUID{wallet}, hour(3), 10, nil)
	if err != nil {
		t.Fatal(err)
	}
	due := func(bucket int) string {
		list, err := s.DueForSnapshot(t.Context(), hour(bucket), []uuid.UUID{f.p.Owner})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range list {
			if m.ID == p.ID {
				return fmt.Sprint(len(m.Membership.Wallets))
			}
		}
		return "-"
	}
	save := func(bucket, number int, held int64) {
		v := valued(t, hour(bucket), holding("a", held, "1", ""))
		if held == 0 {
			v = valued(t, hour(bucket))
		}
		v.Membership = number
		if _, _, err := f.Save(t.Context(), p, hour(bucket), v); err != nil {
			t.Fatal(err)
		}
	}
	if got := due(2) + " " + due(3); got != "- 1" {
		t.Errorf("before it has a wallet, and with one: %s", got)
	}
	save(3, 1, 5)
	if _, err := s.Edit(t.Context(), p.Owner, p.ID, hour(5), portfolio.Edit{Set: true}, "", nil); err != nil {
		t.Fatal(err)
	}
	if got := due(3) + " " + due(4) + " " + due(5); got != "- 1 0" {
		t.Errorf("after its wallet left it is due %s", got)
	}
	save(5, 2, 0)
	if got := due(5) + " " + due(6); got != "- -" {
		t.Errorf("once that was said it is due %s", got)
	}
	more := portfolio.Edit{Add: []uuid.UUID{uuid.New()}}
	if _, err := s.Edit(t.Context(), p.Owner, p.ID, hour(3), more, "", nil); err != nil {
		t.Fatal(err)
	}
	if got := due(3); got != "2" {
		t.Errorf("with another wallet since then it is due %s", got)
	}
}
