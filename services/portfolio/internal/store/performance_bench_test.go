package store_test

import (
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/testkit/versus"
	"github.com/purserhq/purser/services/portfolio/internal/currency"
	"github.com/purserhq/purser/services/portfolio/internal/performance"
)

// BenchmarkPerformance measures ten years: daily snapshots of 100 holdings each, with a flow on each thirtieth day or
// on each day. Raw is bare SQL that reads the values and flows.
func BenchmarkPerformance(b *testing.B) {
	const days = 3650
	for name, every := range map[string]int{"a flow a month": 30, "a flow a day": 1} {
		b.Run(name, func(b *testing.B) {
			f := newFixture(b, noRedis)
			exec := func(statement string, args ...any) {
				if _, err := f.db.SQL().ExecContext(b.Context(), statement, args...); err != nil {
					b.Fatal(err)
				}
			}
			exec(`INSERT INTO snapshots (portfolio_id, bucket, snapshot_time, price_seq, total, complete,
				                         position_count, incomplete_wallet_count, unpriced_count,
				                         stale_price_count, backfilled, measurable, net_flow)
				SELECT $1, at, at, 1, 1000000 + (n * 7919 % 1000) * 123.45678901, true, 100, 0, 0, 0, true, true,
				       CASE WHEN n % $4 = 0 THEN (n % 7 - 3) * 1000.5 + 1 ELSE 0 END
				FROM generate_series(0, $3::integer) AS n,
				     LATERAL (SELECT $2::timestamptz + n * interval '1 day') AS instant (at)`,
				f.p.ID, hour(0), days, every)
			exec(`INSERT INTO assets (token_id, symbol, decimals, verified)
				SELECT 't' || n, 'T', 18, true FROM generate_series(1, 100) AS n`)
			exec(`INSERT INTO position_changes (portfolio_id, asset, bucket, amount)
				SELECT $1, id, $2, 1000000000000000000 FROM assets`, f.p.ID, hour(0))
			exec(`INSERT INTO hour_prices SELECT bucket, id, 1, bucket, false, 123.45, 'bench', ''
				FROM snapshots CROSS JOIN assets`)
			exec("ANALYZE")
			end := hour(0).AddDate(0, 0, days)
			now := func() time.Time { return end }
			s := performance.NewService(f.Snapshots, currency.NewService(nil, nil, now), now)
			versus.Run(b, versus.Comparison{GoalTime: 50 * time.Millisecond,
				Raw: func() {
					rows, err := f.db.SQL().QueryContext(b.Context(), `SELECT bucket, total::text, net_flow::text
						FROM snapshots WHERE portfolio_id = $1 ORDER BY bucket`, f.p.ID)
					if err != nil {
						b.Fatal(err)
					}
					defer func() { _ = rows.Close() }()
					var at time.Time
					var total, flow string
					for rows.Next() {
						if err := rows.Scan(&at, &total, &flow); err != nil {
							b.Fatal(err)
						}
					}
					if err := rows.Err(); err != nil {
						b.Fatal(err)
					}
				},
				Ours: func() {
					m, err := s.Measure(b.Context(), f.p, performance.Request{Start: hour(0), End: end})
					if err != nil || m.Risk.Returns != days || m.TimeWeighted.Annualized.Unavailable != "" {
						b.Fatal(m, err)
					}
				},
			})
		})
	}
}
