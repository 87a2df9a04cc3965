package portfolio_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// Memberships after any edits say of each hour what a list of all hours says, and two hours
// have the same number only if they have the same wallets, also compared with what they had
// under that number before.
func TestMembershipsSayOfEachHourWhatTheEditsMadeOfIt(t *testing.T) {
	const hours = 12
	at := func(n int) time.Time { return portfolio.Beginning().Add(time.Duration(n) * time.Hour) }
	pool := make([]uuid.UUID, 4)
	for i := range pool {
		pool[i] = uuid.UUID{15: byte(i + 1)}
	}
	rapid.Check(t, func(r *rapid.T) {
		m := portfolio.Memberships{{From: portfolio.Beginning(), Named: true, Empty: true}}
		last := 0
		var want [hours][]uuid.UUID
		valued := map[string]string{} // the wallets of each hour and number
		for range rapid.IntRange(1, 12).Draw(r, "edits") {
			from := rapid.IntRange(0, hours-1).Draw(r, "from")
			e := portfolio.Edit{Set: rapid.Bool().Draw(r, "set"),
				Add: rapid.SliceOfN(rapid.SampledFrom(pool), 0, 3).Draw(r, "add")}
			if !e.Set {
				e.Remove = rapid.SliceOfN(rapid.SampledFrom(pool), 0, 3).Draw(r, "remove")
			}
			before := want
			for h := from; h < hours; h++ {
				var set []uuid.UUID
				for _, id := range pool {
					had := !e.Set && slices.Contains(want[h], id) && !slices.Contains(e.Remove, id)
					if had || slices.Contains(e.Add, id) {
						set = append(set, id)
					}
				}
				want[h] = set
			}
			var changed time.Time
			m, last, changed = m.Apply(at(from), e, last)
			for h := range hours {
				got, ok := m.At(at(h).Add(59 * time.Minute))
				if !ok || !slices.Equal(got.Wallets, want[h]) || got.Empty != (len(want[h]) == 0) ||
					got.Number > last {
					r.Fatalf("hour %d has %+v, want %v", h, got, want[h])
				}
				if !slices.Equal(before[h], want[h]) && (changed.IsZero() || changed.After(at(h))) {
					r.Fatalf("hour %d changed, before %s", h, changed)
				}
				key := fmt.Sprint(h, " ", got.Number)
				if old, ok := valued[key]; ok && old != fmt.Sprint(want[h]) {
					r.Fatalf("hour %d had %s under number %d, and has %v", h, old, got.Number, want[h])
				}
				valued[key] = fmt.Sprint(want[h])
			}
			if !slices.IsSortedFunc(m, func(a, b portfolio.Membership) int { return a.From.Compare(b.From) }) {
				r.Fatalf("%v", m)
			}
		}
	})
}

func TestADigestTellsSetsOfWalletsApart(t *testing.T) {
	a, b := valuation.Wallet{ID: "a"}, valuation.Wallet{ID: "b"}
	sets := [][]valuation.Wallet{nil, {a}, {b}, {a, b}, {{ID: "a\nb"}, {ID: "c"}}}
	seen := map[string]bool{}
	for _, set := range sets {
		seen[portfolio.Digest(set)] = true
	}
	if len(seen) != len(sets) || portfolio.Digest(sets[3]) != portfolio.Digest([]valuation.Wallet{b, a}) {
		t.Error(seen)
	}
}

func TestAWalletThatItsOwnerDoesNotHaveMakesTheValueIncomplete(t *testing.T) {
	a, b := uuid.New(), uuid.New()
	m := portfolio.Membership{Named: true, Wallets: []uuid.UUID{a, b}, Number: 7}
	assets, err := m.Assets([]valuation.Wallet{{ID: a.String(), Synced: true}, {ID: "other"}}, nil, noon())
	if err != nil {
		t.Fatal(err)
	}
	v, err := assets.Value()
	if err != nil || v.Complete() || v.Measurable() || v.Wallets != 2 || v.IncompleteWallets != 1 ||
		v.Membership != 7 {
		t.Errorf("%+v, %v", v, err)
	}
}
