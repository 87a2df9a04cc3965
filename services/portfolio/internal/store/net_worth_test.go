package store_test

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/apd/v3"

	"github.com/purserhq/purser/services/portfolio/internal/currency"
	"github.com/purserhq/purser/services/portfolio/internal/snapshot"
	"github.com/purserhq/purser/services/portfolio/internal/store"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// in puts a holding into a lending pool.
func in(kind valuation.PositionKind, h valuation.Holding) valuation.Holding {
	h.Place = valuation.Place{Protocol: "aave-v3", Market: "eip155:1:0xpool", Kind: kind}
	return h
}

// plus adds base units to a holding.
func plus(h valuation.Holding, units int64) valuation.Holding {
	h.Amount = new(big.Int).Add(h.Amount, big.NewInt(units))
	return h
}

// usdc is an amount of whole ones, at 1 US dollar.
func usdc(units int64) valuation.Holding { return holding("usdc", units, "1", "") }

func TestWhatMovesBetweenWalletsAndProtocolsIsNoFlow(t *testing.T) {
	f := newFixture(t, noRedis)
	supplied, owed := valuation.Supplied, valuation.Borrowed
	hours := []struct {
		why, flow string
		held      []valuation.Holding
	}{
		{"the first", "-", []valuation.Holding{usdc(100)}},
		{"100 are supplied, which earn at once", "0", []valuation.Holding{in(supplied, plus(usdc(100), 300))}},
		{"interest", "0", []valuation.Holding{in(supplied, plus(usdc(100), 11_000))}},
		{"none", "0", []valuation.Holding{in(supplied, plus(usdc(100), 11_000))}},
		{"40 are withdrawn", "0", []valuation.Holding{usdc(40), in(supplied, plus(usdc(60), 12_000))}},
		{"50 come in beside interest", "50", []valuation.Holding{usdc(90), in(supplied, plus(usdc(60), 13_000))}},
		{"30 are borrowed", "0", []valuation.Holding{usdc(120), in(supplied, plus(usdc(60), 14_000)),
			in(owed, usdc(30))}},
		{"interest is owed", "0", []valuation.Holding{usdc(120), in(supplied, plus(usdc(60), 15_000)),
			in(owed, plus(usdc(30), 2_000))}},
		{"10 are repaid", "0", []valuation.Holding{usdc(110), in(supplied, plus(usdc(60), 16_000)),
			in(owed, plus(usdc(20), 3_000))}},
		{"20 go out", "-20", []valuation.Holding{usdc(90), in(supplied, plus(usdc(60), 17_000)),
			in(owed, plus(usdc(20), 4_000))}},
		{"500 are supplied for it by another", "500.001", []valuation.Holding{usdc(90),
			in(supplied, plus(usdc(560), 18_000)), in(owed, plus(usdc(20), 4_000))}},
		{"100 more are borrowed, which buy 50 of another", "0", []valuation.Holding{usdc(90),
			holding("b", 50, "2", ""),
			in(supplied, plus(usdc(560), 18_000)), in(owed, plus(usdc(120), 4_000))}},
		{"rewards are earned", "0", []valuation.Holding{usdc(90), holding("b", 50, "2", ""),
			in(supplied, plus(usdc(560), 18_000)), in(owed, plus(usdc(120), 4_000)),
			in(valuation.Claimable, holding("c", 3, "7", ""))}},
		{"and claimed", "0", []valuation.Holding{usdc(90), holding("b", 50, "2", ""), holding("c", 3, "8", ""),
			in(supplied, plus(usdc(560), 18_000)), in(owed, plus(usdc(120), 4_000))}},
	}
	for n, h := range hours {
		f.saveAll(t, valued(t, hour(n), h.held...))
	}
	for i, got := range f.flows(t) {
		if got != hours[i].flow {
			t.Errorf("%s: the flow is %s, want %s", hours[i].why, got, hours[i].flow)
		}
	}
	// From the first to the fourth hour 100 became 100.011 without a flow.
	series, err := f.Marks(t.Context(), f.p.ID, hour(0), hour(3), nil)
	if last := series.Marks[len(series.Marks)-1]; err != nil || last.Value.Text('f') != "100.01100000" {
		t.Errorf("it is worth %v, %v", last, err)
	}
}

func (f fixture) saveAll(t *testing.T, hours ...valuation.Valuation) {
	t.Helper()
	if _, err := f.SaveBackfilled(t.Context(), f.p, hours); err != nil {
		t.Fatal(err)
	}
}

// A wallet that joins brings what it has in protocols: all of it is a flow, also what could be interest or rewards.
func TestAWalletThatJoinsBringsItsPositionsAsAFlow(t *testing.T) {
	f := newFixture(t, noRedis)
	reward := func(units int64) valuation.Holding { return in(valuation.Claimable, holding("c", units, "7", "")) }
	before := valued(t, hour(0), in(valuation.Supplied, usdc(1_000_000)), reward(1))
	after := valued(t, hour(1), in(valuation.Supplied, usdc(1_000_001)), reward(2))
	for _, tc := range []struct {
		membership int
		flow       string
	}{{0, "0"}, {1, "8"}} {
		after.Membership = tc.membership
		if _, err := f.db.SQL().ExecContext(t.Context(), "DELETE FROM snapshots"); err != nil {
			t.Fatal(err)
		}
		_, err := f.db.SQL().ExecContext(t.Context(), `INSERT INTO memberships (portfolio_id, valid_from, number,
			wallet_ids, wallets_digest, no_wallets) VALUES ($1, $2, $3, '{}', '', false)
			ON CONFLICT (portfolio_id, valid_from) DO UPDATE SET number = excluded.number`, f.p.ID, hour(1),
			tc.membership)
		if err != nil {
			t.Fatal(err)
		}
		f.saveAll(t, before, after)
		if got := f.flows(t); !slices.Equal(got, []string{"-", tc.flow}) {
			t.Errorf("membership %d: the flows are %v", tc.membership, got)
		}
	}
}

// Whatever is held and owed, the lines of an hour are its total, its assets and its liabilities: as valued, as stored,
// in the view, in the timeline, and read again.
func TestTheLinesAreTheSnapshotAndTheTimeline(t *testing.T) {
	f := newFixture(t, noRedis)
	random := rand.New(rand.NewPCG(5, 6))
	const hours = 40
	kinds := []valuation.PositionKind{"", valuation.Supplied, valuation.Borrowed, valuation.Staked, valuation.Locked}
	draw := func(n int) valuation.Valuation {
		var held []valuation.Holding
		for i := range random.IntN(10) {
			h := holding(fmt.Sprint(i%4), random.Int64N(1000), fmt.Sprintf("0.%018d", 1+random.Int64N(1e17)), "")
			h.Price.Amount = fmt.Sprintf("%d.%05d", i%4+1, (n*7919+i%4)%100_000)
			h.Amount.Add(h.Amount, big.NewInt(random.Int64N(1_000_000)))
			if kind := kinds[random.IntN(len(kinds))]; kind != "" {
				h = in(kind, h)
				h.Place.RateMode = []string{"", "STABLE"}[random.IntN(2)]
				h.Place.Collateral = kind == valuation.Supplied && random.IntN(2) == 0
			}
			h.IsReceipt = h.Place.InWallet() && random.IntN(4) == 0
			held = append(held, h)
		}
		return valued(t, hour(n), held...)
	}
	all := make([]valuation.Valuation, hours)
	bounds := []time.Time{hour(0)}
	for n := range all {
		all[n], bounds = draw(n), append(bounds, hour(n+1))
	}
	negative := 0
	for _, n := range random.Perm(hours) { // in any order
		if all[n].Total.Sign() < 0 {
			negative++
		}
		f.saveAll(t, all[n])
	}
	if negative < 3 {
		t.Fatalf("%d totals are below 0", negative)
	}
	// Some hours are taken again, with others.
	for range 10 {
		n := random.IntN(hours)
		all[n] = draw(n)
		if _, err := f.ReplaceHours(t.Context(), f.p, all[n:n+1]); err != nil {
			t.Fatal(err)
		}
	}
	times, err := f.Aggregate(t.Context(), f.p, bounds, "")
	if err != nil || len(times.Intervals) != hours {
		t.Fatal(len(times.Intervals), err)
	}
	snaps, err := f.ListForward(t.Context(), f.p.ID, hour(0), hour(hours), hours)
	if err != nil || len(snaps) != hours {
		t.Fatal(len(snaps), err)
	}
	positions, err := f.PositionsAt(t.Context(), f.p.ID, bounds)
	if err != nil {
		t.Fatal(err)
	}
	rate := currency.Rate{Currency: "EUR", Price: "1.07", Source: "llama", Time: hour(0)}
	var rates []currency.HourRate
	for n := range all {
		rates = append(rates, currency.HourRate{Hour: hour(n), Rate: rate})
	}
	if err := store.NewCurrencyRates(f.db.DB, time.Now).SaveRates(t.Context(), rates); err != nil {
		t.Fatal(err)
	}
	euros, err := f.Aggregate(t.Context(), f.p, bounds, "EUR")
	if err != nil || len(euros.Intervals) != hours {
		t.Fatal(len(euros.Intervals), err)
	}
	for n, want := range all {
		f.checkHour(t, want, snaps[n], positions[hour(n)])
		a := times.Intervals[n]
		in := euros.Intervals[n]
		for _, pair := range []struct {
			got     string
			dollars *apd.Decimal
		}{{in.Close, want.Total}, {in.Liabilities, want.Liabilities}, {in.Collateral, want.Collateral}} {
			converted, err := rate.Convert(pair.dollars)
			if err != nil {
				t.Fatal(err)
			}
			same(t, pair.got, converted.Text('f'))
		}
		if same(t, a.Close, want.Total.Text('f')); a.Min != a.Close || a.Open != a.Close {
			t.Errorf("hour %d: the timeline has %+v", n, a)
		}
		same(t, a.Assets, want.Assets.Text('f'))
		same(t, a.Liabilities, want.Liabilities.Text('f'))
		same(t, a.Collateral, want.Collateral.Text('f'))
	}
	n := f.count(t, `SELECT count(*) FROM snapshots s
		WHERE total = coalesce((SELECT sum(value) FROM snapshot_positions p
		WHERE p.portfolio_id = s.portfolio_id AND p.bucket = s.bucket), 0)
		AND liabilities = coalesce((SELECT -sum(value) FROM snapshot_positions p
		WHERE p.portfolio_id = s.portfolio_id AND p.bucket = s.bucket AND kind = 'BORROWED'), 0)
		AND s.collateral = coalesce((SELECT sum(value) FROM snapshot_positions p
		WHERE p.portfolio_id = s.portfolio_id AND p.bucket = s.bucket AND p.collateral), 0)`)
	if n != hours {
		t.Errorf("the view adds up to %d of %d snapshots", n, hours)
	}
}

func (f fixture) checkHour(t *testing.T, want valuation.Valuation, snap snapshot.Snapshot,
	positions []valuation.Position) {
	t.Helper()
	assets, err := snap.Assets()
	if err != nil {
		t.Fatal(err)
	}
	sums, err := valuation.SumOf(positions)
	if err != nil {
		t.Fatal(err)
	}
	for _, pair := range [][2]string{{snap.Total.Text('f'), want.Total.Text('f')},
		{assets.Text('f'), want.Assets.Text('f')}, {snap.Liabilities.Text('f'), want.Liabilities.Text('f')},
		{snap.Collateral.Text('f'), want.Collateral.Text('f')}, {sums.Collateral.Text('f'), want.Collateral.Text('f')},
		{sums.Total.Text('f'), want.Total.Text('f')}, {sums.Liabilities.Text('f'), want.Liabilities.Text('f')}} {
		same(t, pair[0], pair[1])
	}
	if len(positions) != len(want.Positions) || snap.Positions != len(positions) {
		t.Fatalf("%s has %d positions and says %d, want %d", want.ValuationTime, len(positions), snap.Positions,
			len(want.Positions))
	}
	for i, p := range positions {
		if w := want.Positions[i]; p.Place != w.Place || p.TokenID != w.TokenID || p.Amount.Cmp(w.Amount) != 0 {
			t.Errorf("%s: %+v, want %+v", want.ValuationTime, p, w)
		}
	}
}

// same compares two decimals.
func same(t *testing.T, got, want string) {
	t.Helper()
	a, ok := new(big.Rat).SetString(got)
	b, okToo := new(big.Rat).SetString(want)
	if !ok || !okToo || a.Cmp(b) != 0 {
		t.Errorf("got %q, want %q", got, want)
	}
}
