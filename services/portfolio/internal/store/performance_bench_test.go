package store_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/testkit/versus"
	"github.com/purserhq/purser/services/portfolio/internal/performance"
)

// BenchmarkPerformance measures ten years of daily snapshots of 100 holdings each, with a flow on each thirtieth day
// or on each day. Raw is bare SQL that reads the values and flows.
func BenchmarkPerformance(b *testing.B) {
	for name, every := range map[string]int{"a flow a month": 30, "a flow a day": 1} {
		b.Run(name, func(b *testing.B) {
			f := newFixture(b, noRedis)
			for _, statement := range []string{`
				INSERT INTO snapshots (portfolio_id, bucket, snapshot_time, currency, total, complete, position_count,
				                       incomplete_wallet_count, unpriced_count, stale_price_count, backfilled,
				                       measurable, net_flow)
				SELECT $1, $2::timestamptz + n * interval '1 day', $2::timestamptz + n * interval '1 day', 'USD',
				       1000000 + (n * 7919 % 1000) * 123.45678901, true, 100, 0, 0, 0, true, true,
				       CASE WHEN n % ` + strconv.Itoa(every) + ` = 0
				         THEN (n % 7 - 3) * 1000.5 ELSE 0 END
				FROM generate_series(0, 3650) AS n`, `
				INSERT INTO snapshot_positions
				SELECT $1, $2::timestamptz + n * interval '1 day', 't' || k, 'T', 18, true,
				       1000000000000000000 * k::numeric, 123.45, 'bench', $2, false, 123.45 * k, ''
				FROM generate_series(0, 3650) AS n, generate_series(1, 100) AS k`} {
				if _, err := f.db.SQL().ExecContext(b.Context(), statement, f.p.ID, hour(0)); err != nil {
					b.Fatal(err)
				}
			}
			if _, err := f.db.SQL().ExecContext(b.Context(), "ANALYZE"); err != nil {
				b.Fatal(err)
			}
			end := hour(0).AddDate(0, 0, 3650)
			s := performance.NewService(f.Snapshots, func() time.Time { return end })
			versus.Run(b, versus.Comparison{
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
					if err != nil || m.Risk.Returns != 3650 || m.TimeWeighted.Annualized.Unavailable != "" {
						b.Fatal(m, err)
					}
				},
			})
		})
	}
}
