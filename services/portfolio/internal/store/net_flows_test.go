package store_test

import (
	"cmp"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// holding returns units, of 10^6, of a token at a price; "" for one without, for this
// reason.
func holding(token string, units int64, price, reason string) valuation.Holding {
	return valuation.Holding{TokenID: token, Symbol: token, Decimals: 6, Verified: true,
		Amount: big.NewInt(units * 1_000_000), Price: valuation.Price{Amount: price, UnpricedReason: reason}}
}

func valued(t testing.TB, at time.Time, holdings ...valuation.Holding) valuation.Valuation {
	t.Helper()
	v, err := valuation.Compute([]valuation.Wallet{{Synced: true}}, holdings, at)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// flows returns the net flow of each hour that f.p has, "-" for none, and "?" for an hour that is left out.
func (f fixture) flows(t testing.TB) (flows []string) {
	t.Helper()
	rows, err := f.db.SQL().QueryContext(t.Context(), `
		SELECT CASE WHEN measurable THEN coalesce(trim_scale(net_flow)::text, '-') ELSE '?' END
		FROM snapshots WHERE portfolio_id = $1 ORDER BY bucket`, f.p.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var flow string
		if err := rows.Scan(&flow); err != nil {
			t.Fatal(err)
		}
		flows = append(flows, flow)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return flows
}

func TestAChangeOfAnAmountIsAFlowAndAChangeOfAPriceIsNone(t *testing.T) {
	f := newFixture(t, noRedis)
	unverified := holding("c", 5, "2", "")
	unverified.Verified = false
	hours := []struct {
		why, flow string
		v         valuation.Valuation
	}{
		{"the first", "-", valued(t, hour(0), holding("a", 10, "3", ""))},
		{"a price", "0", valued(t, hour(1), holding("a", 10, "4", ""))},
		{"5 more at the price of now", "25", valued(t, hour(2), holding("a", 15, "5", ""))},
		{"a token joins", "14", valued(t, hour(3), holding("a", 15, "6", ""), holding("b", 2, "7", ""))},
		{"the source is unavailable", "?", valued(t, hour(4), holding("a", 9, "6", ""),
			holding("b", 2, "", valuation.ReasonSourceUnavailable))},
		{"3 less, over the hour that is left out", "-24",
			valued(t, hour(5), holding("a", 12, "8", ""), holding("b", 2, "9", ""))},
		{"a token without a price leaves at its last value", "-18",
			valued(t, hour(6), holding("a", 12, "8", ""), holding("b", 2, "", valuation.ReasonNoPrice))},
		{"a token that nobody verified is outside", "0", valued(t, hour(7), holding("a", 12, "9", ""), unverified)},
		{"a token is verified", "15", valued(t, hour(8), holding("a", 12, "9", ""), holding("c", 5, "3", ""))},
		{"a token is gone: at its last price", "-108", valued(t, hour(9), holding("c", 5, "4", ""))},
		{"all is gone", "-20", valued(t, hour(10))},
		{"all is back", "8", valued(t, hour(11), holding("a", 1, "8", ""))},
	}
	for _, h := range hours {
		if _, err := f.SaveBackfilled(t.Context(), f.p, []valuation.Valuation{h.v}); err != nil {
			t.Fatal(err)
		}
	}
	for i, got := range f.flows(t) {
		if got != hours[i].flow {
			t.Errorf("%s: the flow is %s, want %s", hours[i].why, got, hours[i].flow)
		}
	}
}

// The flow of an hour depends on the one before, which may be stored later, at the same time, or replaced.
func TestFlowsDontDependOnTheOrderThatHoursAreStoredIn(t *testing.T) {
	f := newFixture(t, noRedis)
	const hours = 48
	random := rand.New(rand.NewPCG(1, 2))
	var all []valuation.Valuation
	want := []string{"-"}
	units := int64(10)
	for n := range hours {
		price := int64(n + 1)
		all = append(all, valued(t, hour(n), holding("a", units, fmt.Sprint(price), "")))
		change := random.Int64N(5) - 2
		units += change
		want = append(want, fmt.Sprint(change*(price+1)))
	}
	want = want[:hours]
	unavailable := holding("b", 1, "", valuation.ReasonSourceUnavailable)
	var first []valuation.Valuation // some hours are stored without some prices first
	for n, v := range all {
		switch n % 3 {
		case 0:
			first = append(first, valued(t, hour(n), holding("a", 77, "1", ""), unavailable))
		case 1:
			first = append(first, v)
		}
	}
	if _, err := f.SaveBackfilled(t.Context(), f.p, first); err != nil {
		t.Fatal(err)
	}
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	parts := slices.Collect(slices.Chunk(all, 4))
	err := race(len(parts), func(i int) error {
		slices.SortFunc(parts[i], func(a, b valuation.Valuation) int {
			return cmp.Compare(a.ValuationTime.Unix(),
				b.ValuationTime.Unix())
		})
		_, err := f.SaveBackfilled(t.Context(), f.p, parts[i])
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := f.flows(t); !slices.Equal(got, want) {
		t.Errorf("the flows are\n%v, want\n%v", got, want)
	}
}

func TestWhatIsReturnedHasItsFlow(t *testing.T) {
	f := newFixture(t, noRedis)
	stored, err := f.SaveBackfilled(t.Context(), f.p, []valuation.Valuation{
		valued(t, hour(0), holding("a", 10, "3", "")), valued(t, hour(1), holding("a", 12, "3", ""))})
	if err != nil || len(stored) != 2 || stored[0].NetFlow != nil || stored[1].NetFlow.Text('f') != "6.00000000" {
		t.Fatal(stored, err)
	}
	snap, _, err := f.Save(t.Context(), f.p, hour(2), valued(t, hour(2), holding("a", 11, "3", "")))
	if err != nil || snap.NetFlow.Text('f') != "-3.00000000" {
		t.Error(snap, err)
	}
}
