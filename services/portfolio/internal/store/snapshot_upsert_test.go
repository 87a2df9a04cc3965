package store_test

import (
	"fmt"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// backfilled returns the valuations of these hours, of which some are incomplete.
func backfilled(t testing.TB, price string, incomplete func(n int) bool, hours ...int) []valuation.Valuation {
	t.Helper()
	var values []valuation.Valuation
	for _, n := range hours {
		held := []valuation.Holding{{TokenID: "a", Symbol: "A", Verified: true, Amount: big.NewInt(int64(n + 1)),
			Price: valuation.Price{Amount: price, Source: "test", Time: hour(n - 1)}}}
		if incomplete(n) {
			held = append(held, valuation.Holding{TokenID: "b", Symbol: "B", Verified: true, Amount: big.NewInt(1)})
		}
		v, err := valuation.Compute([]valuation.Wallet{{Synced: true}}, held, hour(n))
		if err != nil {
			t.Fatal(err)
		}
		values = append(values, v)
	}
	return values
}

func never(int) bool  { return false }
func even(n int) bool { return n%2 == 0 }

// rows returns the snapshots of f.p as text, with the number of their positions.
func (f fixture) rows(t *testing.T) (lines []string) {
	t.Helper()
	rows, err := f.db.SQL().QueryContext(t.Context(), `
		SELECT format('%s %s %s %s', extract(hour FROM bucket AT TIME ZONE 'UTC'), total,
		         CASE WHEN complete THEN 'complete' ELSE 'incomplete' END,
		         (SELECT count(*) FROM snapshot_positions p
		          WHERE p.portfolio_id = s.portfolio_id AND p.bucket = s.bucket))
		FROM snapshots s WHERE portfolio_id = $1 ORDER BY bucket`, f.p.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return lines
}

func TestBackfilledHoursAreStoredByTheSameRule(t *testing.T) {
	f := newFixture(t, noRedis)
	now := backfilled(t, "7", even, 0, 1)
	for _, v := range now { // 0 incomplete, 1 complete
		v.ValuationTime = v.ValuationTime.Add(time.Minute)
		f.save(t, v.ValuationTime.Truncate(time.Hour), v)
	}
	stored, err := f.SaveBackfilled(t.Context(), f.p,
		backfilled(t, "1", func(n int) bool { return n == 3 }, 0, 1, 2, 3))
	if err != nil || len(stored) != 3 {
		t.Fatal(stored, err)
	}
	for i, n := range []int{0, 2, 3} {
		if s := stored[i]; !s.Bucket.Equal(hour(n)) || !s.SnapshotTime.Equal(hour(n)) || !s.Backfilled ||
			s.Complete != (n != 3) || s.Portfolio != f.p.ID {
			t.Errorf("%+v", s)
		}
	}
	want := []string{"0 1.00000000 complete 1", "1 14.00000000 complete 1", "2 3.00000000 complete 1",
		"3 4.00000000 incomplete 2"}
	if got := f.rows(t); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	list, err := f.List(t.Context(), f.p.ID, time.Time{}, 10)
	if err != nil || len(list) != 4 {
		t.Fatal(list, err)
	}
	for i, s := range list {
		n := 3 - i
		if s.Backfilled != (n != 1) || s.Backfilled != s.SnapshotTime.Equal(s.Bucket) {
			t.Errorf("%+v", s)
		}
	}
	if again, err := f.SaveBackfilled(t.Context(), f.p, backfilled(t, "1", even, 0, 1, 2, 3)); err != nil ||
		len(again) != 1 ||
		!again[0].Complete {
		t.Errorf("again: %+v, %v", again, err)
	}
	// A snapshot of the current hour that replaces an incomplete backfilled one is not
	// backfilled.
	if _, err := f.SaveBackfilled(t.Context(), f.p, backfilled(t, "1", even, 4)); err != nil {
		t.Fatal(err)
	}
	v := backfilled(t, "9", never, 4)[0]
	v.ValuationTime = v.ValuationTime.Add(time.Minute)
	if snap, stored, err := f.Save(t.Context(), f.p, hour(4), v); err != nil || !stored || snap.Backfilled ||
		!snap.SnapshotTime.Equal(v.ValuationTime) {
		t.Errorf("%+v, %v, %v", snap, stored, err)
	}
}

// lacking returns the valuation of an hour that lacks this many wallets and prices, and
// has this many stale prices.
func lacking(t *testing.T, n, wallets, prices, stale int) valuation.Valuation {
	t.Helper()
	held := []valuation.Holding{{TokenID: "a", Symbol: "A", Verified: true, Amount: big.NewInt(1),
		Price: valuation.Price{Amount: "1"}}}
	for i := range prices + stale {
		h := valuation.Holding{TokenID: fmt.Sprint(i), Symbol: "B", Verified: true, Amount: big.NewInt(1),
			Price: valuation.Price{UnpricedReason: "SOURCE_UNAVAILABLE"}}
		if i >= prices {
			h.Price = valuation.Price{Amount: "1", Stale: true}
		}
		held = append(held, h)
	}
	from := []valuation.Wallet{{Synced: true}}
	for range wallets {
		from = append(from, valuation.Wallet{SyncFailed: true})
	}
	v, err := valuation.Compute(from, held, hour(n))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Otherwise a token that never has a price would keep the total of an hour in which the
// feed failed.
func TestAnIncompleteSnapshotIsReplacedByOneThatLacksLess(t *testing.T) {
	f := newFixture(t, noRedis)
	for n, tc := range []struct {
		name          string
		existing, new [3]int // wallets, prices, stale prices
		replaced      bool
	}{
		{"all prices but one come later", [3]int{0, 19, 0}, [3]int{0, 1, 0}, true},
		{"and not the other way round", [3]int{0, 1, 0}, [3]int{0, 19, 0}, false},
		{"as many", [3]int{1, 2, 3}, [3]int{1, 2, 3}, false},
		{"an old price where there was none", [3]int{0, 1, 0}, [3]int{0, 0, 1}, true},
		{"no price where there was an old one", [3]int{0, 0, 1}, [3]int{0, 1, 0}, false},
		{"fewer old prices", [3]int{0, 1, 2}, [3]int{0, 1, 1}, true},
		{"fewer wallets are out, and what they hold has no price", [3]int{1, 0, 0}, [3]int{0, 2, 0}, true},
		{"a wallet less, and all of the others priced", [3]int{0, 2, 0}, [3]int{1, 0, 0}, false},
		{"a complete one", [3]int{0, 0, 0}, [3]int{0, 0, 1}, false},
		{"by a complete one", [3]int{0, 0, 1}, [3]int{0, 0, 0}, true},
	} {
		existing, v := lacking(t, n, tc.existing[0], tc.existing[1], tc.existing[2]),
			lacking(t, n, tc.new[0], tc.new[1], tc.new[2])
		f.save(t, hour(n), existing)
		want := existing
		if tc.replaced {
			want = v
		}
		if snap, stored, err := f.Save(t.Context(), f.p, hour(n), v); err != nil || stored != tc.replaced ||
			snap.Unpriced != want.Unpriced || snap.Total.Cmp(want.Total) != 0 {
			t.Errorf("%s: %v, %+v, %v", tc.name, stored, snap, err)
		}
		bucket := hour(n + 100)
		existing.ValuationTime, v.ValuationTime = bucket, bucket
		if _, err := f.SaveBackfilled(t.Context(), f.p, []valuation.Valuation{existing}); err != nil {
			t.Fatal(err)
		}
		if stored, err := f.SaveBackfilled(t.Context(), f.p, []valuation.Valuation{v}); err != nil ||
			(len(stored) == 1) != tc.replaced {
			t.Errorf("%s, of the past: %+v, %v", tc.name, stored, err)
		}
	}
	if n := f.count(t, `SELECT count(*) FROM snapshots s
		WHERE position_count = (SELECT count(*) FROM snapshot_positions p
		                        WHERE p.portfolio_id = s.portfolio_id AND p.bucket = s.bucket)`); n != 20 {
		t.Errorf("%d of 20 snapshots have their own positions", n)
	}
}

// Each hour gets the same four snapshots, in another order.
func TestTheSnapshotThatLacksTheLeastStays(t *testing.T) {
	f := newFixture(t, noRedis)
	kinds := [][3]int{{0, 1, 0}, {0, 1, 2}, {0, 4, 0}, {2, 0, 0}}
	rounds := make([][]valuation.Valuation, len(kinds))
	for n := range 24 {
		left := slices.Clone(kinds)
		for i := range kinds {
			at := n / []int{1, 4, 12, 24}[i] % len(left)
			rounds[i] = append(rounds[i], lacking(t, n, left[at][0], left[at][1], left[at][2]))
			left = slices.Delete(left, at, at+1)
		}
	}
	for _, hours := range rounds {
		if _, err := f.SaveBackfilled(t.Context(), f.p, hours); err != nil {
			t.Fatal(err)
		}
	}
	for n, line := range f.rows(t) {
		if want := fmt.Sprintf("%d 1.00000000 incomplete 2", n); line != want {
			t.Errorf("hour is %q, want %q", line, want)
		}
	}
}

func TestMissingHoursAreThoseWithoutACompleteSnapshot(t *testing.T) {
	f := newFixture(t, noRedis)
	if _, err := f.SaveBackfilled(t.Context(), f.p, backfilled(t, "1", even, 1, 2, 3, 5)); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		first, until, limit int
		want                []int
	}{{0, 7, 100, []int{0, 2, 4, 6}}, {0, 7, 2, []int{0, 2}}, {1, 2, 100, nil}, {3, 3, 100, nil}, {5, 4, 100, nil}} {
		got, err := f.MissingHours(t.Context(), f.p.ID, hour(tc.first), hour(tc.until), tc.limit)
		if err != nil || len(got) != len(tc.want) {
			t.Fatalf("%+v: %v, %v", tc, got, err)
		}
		for i, n := range tc.want {
			if got[i] != hour(n) {
				t.Errorf("%+v: %v", tc, got)
			}
		}
	}
	if got, err := f.MissingHours(t.Context(), uuid.New(), hour(0), hour(7), 100); err != nil || len(got) != 7 {
		t.Errorf("of another portfolio: %v, %v", got, err)
	}
}

// Eight backfills of the same hours run at once, on four replicas; half of them lack
// prices.
func TestReplicasThatStoreTheSameHoursAtOnceStoreTheSame(t *testing.T) {
	for range 5 {
		f := newFixture(t, noRedis)
		var hours []int
		for n := range 200 {
			hours = append(hours, n)
		}
		whole, holed := backfilled(t, "1", never, hours...), backfilled(t, "1", even, hours...)
		replicas := []fixture{f, f.replica(t), f.replica(t), f.replica(t)}
		err := race(8, func(i int) error {
			values := slices.Clone(whole)
			if i%2 == 0 {
				values = slices.Clone(holed)
			}
			_, err := replicas[i%4].SaveBackfilled(t.Context(), f.p, values)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if n := f.count(t, `SELECT count(*) FROM snapshots s
			WHERE complete AND total = (
			  SELECT sum(value) FROM snapshot_positions p
			  WHERE p.portfolio_id = s.portfolio_id AND p.bucket = s.bucket AND verified)`); n != 200 {
			t.Errorf("%d of 200 hours are complete and consistent", n)
		}
		if n := f.count(t, "SELECT count(*) FROM snapshot_positions"); n != 200 {
			t.Errorf("%d positions", n)
		}
	}
}

func TestABatchIsOneInvalidation(t *testing.T) {
	f := newFixture(t, testkit.Redis(t).URL())
	other := f.replica(t)
	if got := other.closes(t, f.p, hour(0), hour(24)); got != "" {
		t.Fatal(got)
	}
	notes := f.count(t, "SELECT last_value FROM cache_invalidations_id_seq")
	if _, err := f.SaveBackfilled(t.Context(), f.p, backfilled(t, "1", never, 0, 1, 2, 3)); err != nil {
		t.Fatal(err)
	}
	if n := f.count(t, "SELECT last_value FROM cache_invalidations_id_seq") - notes; n > 1 {
		t.Errorf("%d notes", n)
	}
	if got := other.closes(t, f.p, hour(0), hour(24)); got != " 0: 4.00000000" {
		t.Errorf("the other replica answers %q", got)
	}
}

// Wallets come before prices, and prices before stale prices.
func TestASnapshotIsReplacedOnlyByACertainlyBetterOne(t *testing.T) {
	f := newFixture(t, noRedis)
	f.save(t, hour(0), lacking(t, 0, 0, 5, 0))
	for _, step := range []struct {
		v      valuation.Valuation
		stored bool
	}{{lacking(t, 0, 1, 0, 0), false}, {lacking(t, 0, 0, 5, 1), false}, {lacking(t, 0, 0, 4, 9), true}} {
		if stored := f.save(t, hour(0), step.v); stored != step.stored {
			t.Errorf("stored %v: %v", stored, step.v.IncompleteReasons)
		}
	}
}

// Numbers of any size and scale, nulls and times come back exactly.
func TestPositionsComeBackExactly(t *testing.T) {
	f := newFixture(t, noRedis)
	amount := func(text string) *big.Int {
		n, ok := new(big.Int).SetString(text, 10)
		if !ok {
			t.Fatal(text)
		}
		return n
	}
	at := hour(-1).Add(123456789 * time.Nanosecond)
	tokens := []valuation.Holding{
		{TokenID: "an amount of 78 digits", Amount: amount(maxUint256), Decimals: 77, Verified: true,
			Price: valuation.Price{Amount: "1", Source: "test", Time: at}},
		{TokenID: "an amount of 0", Amount: amount("0"), Verified: true,
			Price: valuation.Price{Amount: "0", Source: "test", Time: at}},
		{TokenID: "a price of 31 decimals", Amount: amount("1"), Decimals: 255,
			Price: valuation.Price{Amount: "0.0000000000000000000000000000001", Time: at, Stale: true}},
		{TokenID: "a price with trailing zeros", Amount: amount("100"), Verified: true,
			Price: valuation.Price{Amount: "12345678901234567890.1200", Time: at}},
		{TokenID: "no price", Amount: amount("10000"), Verified: true,
			Price: valuation.Price{UnpricedReason: "SOURCE_UNAVAILABLE"}},
		{TokenID: "a price of which no value comes", Amount: amount(maxUint256), Verified: true,
			Price: valuation.Price{Amount: "123456789012345678901234567890", Time: at}},
		{TokenID: `<&> "quotes" \ and é`, Symbol: "\t\u2028", Amount: amount("7")},
	}
	want, err := valuation.Compute([]valuation.Wallet{{Synced: true}}, tokens, hour(0))
	if err != nil {
		t.Fatal(err)
	}
	stored, err := f.SaveBackfilled(t.Context(), f.p, []valuation.Valuation{want})
	if err != nil || len(stored) != 1 || stored[0].Total.Cmp(want.Total) != 0 {
		t.Fatal(stored, err)
	}
	got, err := f.LastSnapshot(t.Context(), f.p.ID, hour(1000))
	if err != nil || len(got.Positions) != len(tokens) || got.Total.Cmp(want.Total) != 0 {
		t.Fatal(got, err)
	}
	for i, w := range want.Positions {
		if !w.Price.Time.IsZero() {
			w.Price.Time = w.Price.Time.Truncate(time.Microsecond)
		}
		g := got.Positions[i]
		if g.TokenID != w.TokenID || g.Symbol != w.Symbol || g.Decimals != w.Decimals || g.Price != w.Price ||
			g.Amount.Cmp(w.Amount) != 0 || fmt.Sprint(g.Value) != fmt.Sprint(w.Value) {
			t.Errorf("%+v came back as %+v", w, g)
		}
	}
	// A price with an exponent is stored as the same number.
	tokens = []valuation.Holding{{TokenID: "e", Amount: amount("5"), Verified: true,
		Price: valuation.Price{Amount: "1e-30", Time: at}}}
	if want, err = valuation.Compute([]valuation.Wallet{{Synced: true}}, tokens, hour(1)); err != nil {
		t.Fatal(err)
	}
	f.save(t, hour(1), want)
	got, err = f.LastSnapshot(t.Context(), f.p.ID, hour(1000))
	if err != nil || got.Positions[0].Price.Amount != "0.000000000000000000000000000001" {
		t.Errorf("1e-30 came back as %+v, %v", got.Positions, err)
	}
}
