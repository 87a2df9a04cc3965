package store_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/purserhq/purser/services/portfolio/internal/snapshot"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// A chain that replaces blocks has the snapshots taken again that were taken since, of those who ever held a token on
// it, and no others.
func TestSnapshotsOfReplacedBlocksAreOutOfDate(t *testing.T) {
	f := newFixture(t, noRedis)
	all := f.portfoliosOf(t, 2)
	f.p = all[0]
	take := func(n int, v valuation.Valuation) {
		t.Helper()
		for i, token := range []string{"eip155:1/erc20:0xa", "eip155:10/erc20:0xa"} {
			v := valued(t, v.ValuationTime, holding(token, int64(n), "1", ""))
			v.Membership = 0
			if _, _, err := f.Save(t.Context(), all[i], hour(n), v); err != nil {
				t.Fatal(err)
			}
		}
	}
	for n := range 4 {
		take(n, valued(t, hour(n)))
	}
	take(4, valued(t, hour(4).Add(20*time.Minute)))
	outOfDate := func(p int) (hours string) {
		t.Helper()
		snaps, err := f.List(t.Context(), all[p].ID, time.Time{}, 10)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, s := range snaps {
			if s.OutOfDate == s.Complete {
				t.Errorf("a snapshot is out of date %v and complete %v", s.OutOfDate, s.Complete)
			}
			if s.OutOfDate {
				out = append(out, fmt.Sprint(s.Bucket.Sub(hour(0)).Hours()))
			}
		}
		return strings.Join(out, " ")
	}
	for _, step := range []struct {
		chain        string
		since, until time.Duration
		want         string
	}{
		{"eip155:1", 61 * time.Minute, 119 * time.Minute, ""}, // within an hour, whose snapshot is of its start
		{"eip155:137", 110 * time.Minute, 125 * time.Minute, ""},
		{"eip155:1", 110 * time.Minute, 125 * time.Minute, "2"},
		{"eip155:1", 255 * time.Minute, 262 * time.Minute, "4 2"}, // one that was taken in the middle
	} {
		r := snapshot.ReplacedBlocks{Chain: step.chain, Since: hour(0).Add(step.since), Until: hour(0).Add(step.until)}
		for range 2 { // as after a crash
			if err := f.Outdate(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		if got := outOfDate(0); got != step.want {
			t.Errorf("after %v hours %q are out of date, want %q", step, got, step.want)
		}
	}
	if got := outOfDate(1); got != "" {
		t.Errorf("of who has nothing on the chain, hours %q are out of date", got)
	}
	due, err := f.portfolios(t).DueForRecompute(t.Context(), 0, 1, time.Now().Add(time.Hour), 10)
	if err != nil || len(due) != 1 || due[0].ID != f.p.ID || !due[0].From.Equal(hour(1)) {
		t.Fatalf("%v is due, %v", due, err)
	}
	again := []valuation.Valuation{valued(t, hour(2), holding("eip155:1/erc20:0xa", 7, "1", ""))}
	if stored, err := f.ReplaceHours(t.Context(), f.p, again); err != nil || len(stored) != 1 || outOfDate(0) != "4" {
		t.Errorf("taken again: %v, %v, and %q are out of date", stored, err, outOfDate(0))
	}
}
