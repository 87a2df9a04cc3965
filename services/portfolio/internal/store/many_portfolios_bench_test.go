package store_test

import (
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/versus"
	"github.com/purserhq/purser/services/portfolio/internal/allocation"
	"github.com/purserhq/purser/services/portfolio/internal/kpi"
)

// manyPortfolios stores portfolios of 20 tokens with a snapshot in each hour up to hour(0), in the order in which
// hours come, so that those of one portfolio are as far apart as they are then. One position of each changes a day.
// Totals and prices are made up. f.p is one of the portfolios.
func (f fixture) manyPortfolios(b *testing.B, portfolios, days int) {
	b.Helper()
	const positions = 20
	conn, err := f.db.SQL().Conn(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	exec := func(statement string, args ...any) {
		b.Helper()
		if _, err := conn.ExecContext(b.Context(), statement, args...); err != nil {
			b.Fatal(err)
		}
	}
	defer func() {
		exec("RESET ALL")
		_ = conn.Close()
	}()
	exec("SET statement_timeout = 0")
	f.fiveYears(b)
	exec("SET session_replication_role = replica") // foreign keys of 90 million made up rows need no check
	exec(`INSERT INTO assets (token_id, symbol, decimals, verified)
		SELECT 'eip155:1/erc20:0x' || md5(n::text) || substr(md5(n::text), 1, 8), 'TKN' || n, 18, true
		FROM generate_series(1, $1) AS n`, positions)
	exec(`INSERT INTO portfolios (id, owner_id, name, is_default, created_at)
		SELECT gen_random_uuid(), gen_random_uuid(), 'All wallets', true, now()
		FROM generate_series(2, $1)`, portfolios)
	exec(`INSERT INTO memberships (portfolio_id, valid_from, number, wallet_ids, wallets_digest, no_wallets)
		SELECT id, to_timestamp(0), 0, '{}', '', false FROM portfolios ON CONFLICT DO NOTHING`)
	exec(`UPDATE hour_price_sequence SET last = 1`)
	for day := -days; day < 0; day++ {
		first, last := hour(day*24), hour(day*24+23)
		exec(`INSERT INTO hour_prices (bucket, asset, seq, price_time, stale, price, source, reason)
			SELECT h, id, 1, h, false, 1000 + id + extract(hour FROM h) / 10, 'defillama', ''
			FROM generate_series($1::timestamptz, $2::timestamptz, '1 hour') AS h, assets`, first, last)
		exec(`INSERT INTO snapshots (portfolio_id, bucket, snapshot_time, price_seq, total, complete, position_count,
				incomplete_wallet_count, unpriced_count, stale_price_count, backfilled, measurable, net_flow,
				held_digest)
			SELECT p.id, h, h, 1, 123456.78901234 + extract(epoch FROM h) % 1009, true, $3, 0, 0, 0, false, true,
			       CASE WHEN extract(hour FROM h) = 12 THEN 1.5 ELSE 0 END, gen_random_uuid()
			FROM generate_series($1::timestamptz, $2::timestamptz, '1 hour') AS h, portfolios p ORDER BY h`,
			first, last, positions)
		exec(`INSERT INTO position_changes (portfolio_id, asset, bucket, amount)
			SELECT p.id, a.id, $1, 1234567890123456789 + $2::integer
			FROM portfolios p, assets a WHERE $2 = -$4::integer OR a.id % $3 = -$2::integer % $3`,
			first, day, positions, days)
	}
	exec("VACUUM ANALYZE")
}

// BenchmarkManyPortfolios reads the history of one of many portfolios: 200 of a month, and with PURSER_PROVE 10,000 of
// a year. Raw is bare SQL over the same rows. With -v it prints what they take on disk.
func BenchmarkManyPortfolios(b *testing.B) {
	portfolios, days := testkit.Size(200, 10_000), testkit.Size(30, 365)
	f := newFixture(b, noRedis)
	begun := time.Now()
	f.manyPortfolios(b, portfolios, days)
	var bytes int64
	err := f.db.SQL().QueryRowContext(b.Context(), "SELECT pg_database_size(current_database())").Scan(&bytes)
	if err != nil {
		b.Fatal(err)
	}
	testkit.Figure(b, "%d portfolios, 20 tokens, %d days: %d snapshots in %s, %.2f GB on disk, "+
		"%.1f bytes a position and hour", portfolios, days, portfolios*days*24,
		time.Since(begun).Round(time.Second), float64(bytes)/1e9, float64(bytes)/float64(portfolios*days*24*20))
	now := hour(0)
	bounds := []time.Time{hour(-days * 24)}
	for day := range days {
		bounds = append(bounds, hour((day+1-days)*24))
	}
	hours := bounds[max(0, days-30):] // of the last month, by the hour
	hourly := []time.Time{hours[0]}
	for h := hours[0]; h.Before(now); h = h.Add(time.Hour) {
		hourly = append(hourly, h.Add(time.Hour))
	}
	timeline := func(bounds []time.Time) func() {
		return func() {
			got, err := f.AggregateUncached(b.Context(), f.p.ID, bounds)
			if err != nil || len(got) != len(bounds)-1 {
				b.Fatal(len(got), err)
			}
		}
	}
	figures := kpi.NewService(valuedNow{valued(b, now, holding("a", 20, "18", ""))}, f, dollars(),
		func() time.Time { return now })
	allocations := allocation.NewService(nil, f, dollars(), func() time.Time { return now })
	all := f.query(b, bareAggregate, bounds)
	for name, c := range map[string]versus.Comparison{
		"timeline by the day":  {Raw: all, Ours: timeline(bounds), Goal: 1.5},
		"timeline by the hour": {Raw: f.query(b, bareAggregate, hourly), Ours: timeline(hourly), Goal: 1.5},
		"key figures": {Raw: all, Ours: func() {
			if _, err := figures.Figures(b.Context(), f.p, kpi.Request{}); err != nil {
				b.Fatal(err)
			}
		}},
		"a page of snapshots": {Raw: f.bareSnapshots(b), Ours: func() {
			if got, err := f.List(b.Context(), f.p.ID, time.Time{}, 500); err != nil || len(got) != 500 {
				b.Fatal(len(got), err)
			}
		}},
		"allocation by the day": {Raw: all, Ours: func() {
			h, err := allocations.History(b.Context(), f.p, allocation.HistoryRequest{Start: bounds[0], End: now,
				Limit: 400})
			if err != nil || len(h.Points) != days {
				b.Fatal(len(h.Points), err)
			}
		}},
	} {
		b.Run(name, func(b *testing.B) { versus.Run(b, c) })
	}
}

// bareSnapshots reads what a page of 500 snapshots has.
func (f fixture) bareSnapshots(b *testing.B) func() {
	return func() {
		rows, err := f.db.SQL().QueryContext(b.Context(), `SELECT bucket, total::text, complete, net_flow::text
			FROM snapshots WHERE portfolio_id = $1 ORDER BY bucket DESC LIMIT 500`, f.p.ID)
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = rows.Close() }()
		var at time.Time
		var total, flow string
		var complete bool
		for rows.Next() {
			if err := rows.Scan(&at, &total, &complete, &flow); err != nil {
				b.Fatal(err)
			}
		}
		if err := rows.Err(); err != nil {
			b.Fatal(err)
		}
	}
}
