package store_test

import (
	"slices"
	"testing"
	"time"
)

// Intervals of an hour are read by a statement of their own: it says what that of any intervals does.
func TestHoursAreAggregatedAsAnyIntervals(t *testing.T) {
	f := newFixture(t, noRedis)
	f.exec(t, `INSERT INTO memberships (portfolio_id, valid_from, number, wallet_ids, wallets_digest, no_wallets)
		SELECT $1, $2::timestamptz + n * interval '20 hours', n, '{}', n::text, false
		FROM generate_series(1, 5) AS n`, f.p.ID, hour(0))
	f.exec(t, `INSERT INTO snapshots (portfolio_id, bucket, snapshot_time, price_seq, total, liabilities, collateral,
			complete, position_count, incomplete_wallet_count, unpriced_count, stale_price_count, backfilled,
			measurable, price_gap, net_flow, membership)
		SELECT $1, at, at, 0, 1000.0625 - n * 7, n % 4, n % 3, n % 5 <> 0, 1, 0, 0, 0, false, n % 7 <> 0, n % 7 = 0,
			CASE n % 7 WHEN 0 THEN NULL ELSE n % 2 - 0.5 END, n / 25
		FROM generate_series(0, 119) AS n, LATERAL (SELECT $2::timestamptz + n * interval '1 hour' AS at) AS hours
		WHERE n % 11 <> 0`, f.p.ID, hour(0))
	for _, shift := range []time.Duration{0, 15 * time.Minute} { // there are zones of quarters of an hour
		var bounds []time.Time
		for n := range 121 {
			bounds = append(bounds, hour(n).Add(shift))
		}
		hours, err := f.AggregateUncached(t.Context(), f.p.ID, bounds)
		if err != nil {
			t.Fatal(err)
		}
		intervals, err := f.AggregateUncached(t.Context(), f.p.ID, append(bounds, hour(200))) // the last of no hour
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(hours, intervals) {
			t.Errorf("after %s: hours are\n%v\nand as intervals\n%v", shift, hours, intervals)
		}
		gaps, outOfDate := 0, 0
		for _, a := range hours {
			gaps, outOfDate = gaps+a.LeftOut, outOfDate+a.OutOfDate
		}
		if len(hours) < 100 || gaps == 0 || outOfDate == 0 || outOfDate == len(hours) {
			t.Errorf("%d hours, %d gaps, %d out of date: they show nothing", len(hours), gaps, outOfDate)
		}
	}
}
