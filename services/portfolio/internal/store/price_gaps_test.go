package store_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// gaps returns a letter for each hour that f.p has: G with a price gap, ? if it isn't measurable for another reason.
func (f fixture) gaps(t testing.TB) (letters string) {
	t.Helper()
	err := f.db.SQL().QueryRowContext(t.Context(), `
		SELECT string_agg(CASE WHEN price_gap AND measurable THEN '!' WHEN price_gap THEN 'G' WHEN measurable THEN '.'
		                  ELSE '?' END, '' ORDER BY bucket)
		FROM snapshots WHERE portfolio_id = $1`, f.p.ID).Scan(&letters)
	if err != nil {
		t.Fatal(err)
	}
	return letters
}

// priced returns hours, of which each letter says whether token b has a price, or w that its wallet could not be read.
func priced(t testing.TB, hours string) (all []valuation.Valuation) {
	t.Helper()
	for n, letter := range hours {
		price, reason := "2", ""
		switch letter {
		case 'x':
			price, reason = "", valuation.ReasonNoPrice
		case '?':
			price, reason = "", valuation.ReasonSourceUnavailable
		case 'w':
			v, err := valuation.Compute([]valuation.Wallet{{Synced: true}, {}},
				[]valuation.Holding{holding("a", 10, fmt.Sprint(n+1), "")}, hour(n))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, v)
			continue
		}
		all = append(all, valued(t, hour(n), holding("a", 10, fmt.Sprint(n+1), ""), holding("b", 5, price, reason)))
	}
	return all
}

func TestAnHourWithoutAPriceThatItsNeighboursHaveIsAPriceGap(t *testing.T) {
	day := strings.Repeat("x", 24)
	for name, tc := range map[string]struct{ hours, want string }{
		"some hours":                     {"11xxx11", "..GGG.."},
		"nothing before":                 {"xx11", "...."},
		"nothing after yet":              {"11xx", "...."},
		"two gaps":                       {"1x1x1", ".G.G."},
		"a source that was away as well": {"1?x1", ".GG."},
		"a source that is away":          {"1?", ".?"},
		"just under seven days": {"1" + day[:23] + strings.Repeat(day, 6) + "1",
			"." + strings.Repeat("G", 167) + "."},
		"a wallet that failed":         {"11ww11", "..GG.."},
		"and none before":              {"ww11", "??.."},
		"and none after yet":           {"11ww", "..??"},
		"a wallet and a price in turn": {"1xwx1w1", ".GGG.G."},
		"a wallet for over seven days": {"1" + strings.Repeat("w", 7*24) + "1", "." + strings.Repeat("?", 168) + "."},
		"over seven days": {"1" + strings.Repeat(day, 7) + "1",
			strings.Repeat(".", 170)},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, noRedis)
			hours := priced(t, tc.hours)
			for part := range slices.Chunk(hours, max(1, len(hours)/4)) {
				if _, err := f.SaveBackfilled(t.Context(), f.p, part); err != nil {
					t.Fatal(err)
				}
			}
			if got := f.gaps(t); got != tc.want {
				t.Errorf("%s is %s, want %s", tc.hours, got, tc.want)
			}
		})
	}
}

func TestAFlowOverAPriceGapIsCountedAfterIt(t *testing.T) {
	f := newFixture(t, noRedis)
	for _, v := range []valuation.Valuation{
		valued(t, hour(0), holding("a", 10, "3", ""), holding("b", 2, "7", "")),
		valued(t, hour(1), holding("a", 11, "3", ""), holding("b", 2, "", valuation.ReasonNoPrice)),
		valued(t, hour(2), holding("a", 12, "3", ""), holding("b", 2, "", valuation.ReasonNoPrice)),
	} {
		if _, err := f.SaveBackfilled(t.Context(), f.p, []valuation.Valuation{v}); err != nil {
			t.Fatal(err)
		}
	}
	// Nobody knows yet that it is a gap.
	if got := fmt.Sprint(f.flows(t)); got != "[- -11 3]" {
		t.Errorf("while the price is away the flows are %s", got)
	}
	last := valued(t, hour(3), holding("a", 12, "4", ""), holding("b", 2, "9", ""))
	if _, err := f.SaveBackfilled(t.Context(), f.p, []valuation.Valuation{last}); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(f.flows(t)); got != "[- ? ? 8]" {
		t.Errorf("when it is back they are %s", got)
	}
}

// What is a gap doesn't depend on which hour was stored first.
func TestPriceGapsDontDependOnTheOrderThatHoursAreStoredIn(t *testing.T) {
	const letters = "1xx11x1?1xxxw111w1xxx1?x1xwwxx1x11w1?x11xx"
	inOrder := newFixture(t, noRedis)
	if _, err := inOrder.SaveBackfilled(t.Context(), inOrder.p, priced(t, letters)); err != nil {
		t.Fatal(err)
	}
	want, flows := inOrder.gaps(t), fmt.Sprint(inOrder.flows(t))
	if strings.Count(want, "G") != strings.Count(letters, "x")+strings.Count(letters, "?")+
		strings.Count(letters, "w")-2 {
		t.Fatalf("%s has the gaps %s", letters, want)
	}
	for seed := range uint64(4) {
		f := newFixture(t, noRedis)
		hours := priced(t, letters)
		random := rand.New(rand.NewPCG(seed, 1))
		random.Shuffle(len(hours), func(i, j int) { hours[i], hours[j] = hours[j], hours[i] })
		for part := range slices.Chunk(hours, int(seed)+1) {
			if _, err := f.SaveBackfilled(t.Context(), f.p, part); err != nil {
				t.Fatal(err)
			}
		}
		if got := f.gaps(t); got != want {
			t.Errorf("order %d: %s, want %s", seed, got, want)
		}
		if got := fmt.Sprint(f.flows(t)); got != flows {
			t.Errorf("order %d: the flows are %s, want %s", seed, got, flows)
		}
	}
}

// A snapshot that was taken in its hour has the last balances of a wallet whose sync failed: it lacks nothing.
func TestASnapshotOfNowWithAWalletThatFailsHasNoGap(t *testing.T) {
	f := newFixture(t, noRedis)
	for n := range 3 {
		wallets := []valuation.Wallet{{Synced: true, SyncFailed: n == 1}}
		v, err := valuation.Compute(wallets, []valuation.Holding{holding("a", 10, "3", "")}, hour(n))
		if err != nil {
			t.Fatal(err)
		}
		if _, stored, err := f.Save(t.Context(), f.p, hour(n), v); err != nil || !stored {
			t.Fatal(stored, err)
		}
	}
	if got := f.gaps(t); got != ".?." {
		t.Errorf("the snapshots are %s", got)
	}
}
