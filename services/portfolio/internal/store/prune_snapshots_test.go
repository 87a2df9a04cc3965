package store_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// idle is how many rows of position_changes change nothing.
func (f fixture) idle(t rapid.TB) (n int) {
	t.Helper()
	err := f.db.SQL().QueryRow(`
		SELECT count(*) FROM (
		  SELECT amount, lag(amount) OVER w AS before, row_number() OVER w AS n FROM position_changes
		  WHERE portfolio_id = $1 WINDOW w AS (PARTITION BY asset, place ORDER BY bucket)) AS c
		WHERE n > 1 AND amount IS NOT DISTINCT FROM before OR n = 1 AND amount IS NULL`, f.p.ID).Scan(&n)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Snapshots are stored in any order and forgotten up to any hour, in small steps. What is left has the positions that
// it was stored with, and so has what is stored later, before it or after it.
func TestWhatIsLeftOfAPortfolioHasItsPositions(t *testing.T) {
	shared := newFixture(t, noRedis)
	portfolios := shared.portfolios(t)
	rapid.Check(t, func(r *rapid.T) {
		f := shared
		p, err := portfolios.FindOrCreateDefault(t.Context(), newDefault(uuid.New()))
		if err != nil {
			r.Fatal(err)
		}
		f.p = p
		model := map[int64]valuation.Valuation{}
		for range rapid.IntRange(1, 4).Draw(r, "rounds") {
			var batch []valuation.Valuation
			hours := rapid.SliceOfNDistinct(rapid.IntRange(0, 12), 1, 8, rapid.ID[int]).Draw(r, "hours")
			slices.Sort(hours)
			for _, n := range hours {
				batch = append(batch, drawn(r, n))
			}
			if _, err := f.SaveBackfilled(t.Context(), f.p, batch); err != nil {
				r.Fatal(err)
			}
			for _, v := range batch {
				at := v.ValuationTime.Unix()
				if before, ok := model[at]; !ok || rank(v) > rank(before) {
					model[at] = v
				}
			}
			before := hour(rapid.IntRange(0, 13).Draw(r, "forgotten before"))
			if err := f.PruneInSteps(t.Context(), before, rapid.IntRange(1, 4).Draw(r, "step")); err != nil {
				r.Fatal(err)
			}
			maps.DeleteFunc(model, func(at int64, _ valuation.Valuation) bool { return at < before.Unix() })
			got := f.positionsOf(t.Context(), r)
			if len(got) != len(model) {
				r.Fatalf("%d snapshots, want %d", len(got), len(model))
			}
			for at, v := range model {
				if got[at] != asText(v) {
					r.Errorf("at %s: %q, want %q", time.Unix(at, 0).UTC(), got[at], asText(v))
				}
			}
			if n := f.idle(r); n > 0 {
				r.Errorf("%d rows change nothing", n)
			}
		}
	})
}

func TestWhatIsLeftBeginsWithoutAFlow(t *testing.T) {
	f := newFixture(t, noRedis)
	var hours []valuation.Valuation
	for n := range 6 {
		hours = append(hours, valued(t, hour(n), holding("a", 5, "2", ""), holding("b", int64(1+n), "1", "")))
	}
	if _, err := f.SaveBackfilled(t.Context(), f.p, hours); err != nil {
		t.Fatal(err)
	}
	before := f.flows(t)
	if err := f.PruneSnapshots(t.Context(), hour(3)); err != nil {
		t.Fatal(err)
	}
	want := append([]string{before[0]}, before[4:]...)
	if got := f.flows(t); !slices.Equal(got, want) || before[3] == before[0] {
		t.Errorf("flows %q of %q, want %q", got, before, want)
	}
	// Other portfolios with nothing that old are left alone, and so is what is as old as the time itself.
	if err := f.PruneSnapshots(t.Context(), hour(3)); err != nil {
		t.Fatal(err)
	}
	if n := f.count(t, "SELECT count(*) FROM snapshots"); n != 3 {
		t.Errorf("%d snapshots are left", n)
	}
	if err := f.PruneSnapshots(t.Context(), hour(99)); err != nil {
		t.Fatal(err)
	}
	if n := f.count(t, "SELECT (SELECT count(*) FROM snapshots) + (SELECT count(*) FROM position_changes)"); n != 0 {
		t.Errorf("%d rows are left of a portfolio without snapshots", n)
	}
}

// The control of TestWhatIsLeftOfAPortfolioHasItsPositions: what was held without a change for long is lost if old
// changes are deleted by their time alone.
func TestOldChangesAreWhatNewSnapshotsHold(t *testing.T) {
	f := newFixture(t, noRedis)
	v := func(n int) valuation.Valuation { return valued(t, hour(n), holding("a", 5, "2", "")) }
	if _, err := f.SaveBackfilled(t.Context(), f.p, []valuation.Valuation{v(0), v(1), v(2)}); err != nil {
		t.Fatal(err)
	}
	_, err := f.db.SQL().ExecContext(t.Context(), "DELETE FROM position_changes WHERE bucket < $1", hour(2))
	if err != nil {
		t.Fatal(err)
	}
	held := "SELECT count(*) FROM snapshot_positions WHERE portfolio_id = $1 AND bucket = $2"
	if n := f.count(t, held, f.p.ID, hour(2)); n != 0 {
		t.Errorf("%d positions are there without their change", n)
	}
}

// Writers store new and old hours while old ones are forgotten, over and over: what is left is right.
func TestSnapshotsAreForgottenWhileOthersAreStored(t *testing.T) {
	f := newFixture(t, noRedis)
	const hours, turns = 12, 6
	v := func(n int) valuation.Valuation {
		return valued(t, hour(n), holding("a", 5, "2", ""), holding("b", int64(1+n/2), "1", ""))
	}
	err := race(4, func(i int) error {
		for turn := range turns {
			if i == 0 {
				if err := f.PruneInSteps(t.Context(), hour(turn), 2); err != nil {
					return err
				}
				continue
			}
			var batch []valuation.Valuation
			for n := i - 1; n < hours; n += 3 {
				batch = append(batch, v(n))
			}
			if _, err := f.SaveBackfilled(t.Context(), f.p, batch); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	got := f.positionsOf(t.Context(), t)
	for n := turns; n < hours; n++ {
		if want := asText(v(n)); got[hour(n).Unix()] != want {
			t.Errorf("hour %d has %q, want %q", n, got[hour(n).Unix()], want)
		}
	}
	if n := f.idle(t); n > 0 {
		t.Errorf("%d rows change nothing", n)
	}
	for at := range got {
		if want := asText(v(int(time.Unix(at, 0).Sub(hour(0)) / time.Hour))); got[at] != want {
			t.Errorf("at %s: %q, want %q", time.Unix(at, 0).UTC(), got[at], want)
		}
	}
}
