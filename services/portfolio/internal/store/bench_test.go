package store_test

import (
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/versus"
	"github.com/purserhq/purser/services/portfolio/internal/store"
)

// BenchmarkTimeline reads timelines of hourly snapshots from the cache and, to compare,
// from Postgres: thirty days by the day, and five years in five hundred points.
func BenchmarkTimeline(b *testing.B) {
	f := newFixture(b, noRedis)
	_, err := f.db.SQL().ExecContext(b.Context(), `
		INSERT INTO snapshots (portfolio_id, bucket, snapshot_time, price_seq, total, complete, position_count,
		                       incomplete_wallet_count, unpriced_count, stale_price_count, backfilled, measurable)
		SELECT $1, t, t, 0, 1234.56789012, true, 1, 0, 0, 0, false, false
		FROM generate_series($2::timestamptz, $3::timestamptz, '1 hour') AS t`,
		f.p.ID, hour(0), hour(5*365*24))
	if err != nil {
		b.Fatal(err)
	}
	if _, err := f.db.SQL().ExecContext(b.Context(), "ANALYZE"); err != nil {
		b.Fatal(err)
	}
	cached := f
	cached.url = testkit.Redis(b).URL()
	cached = cached.replica(b)
	for name, tc := range map[string]struct{ from, step, points int }{"30 days": {5*365*24 - 720, 24, 30},
		"5 years": {0, 87, 500}} {
		var bounds []time.Time
		for i := range tc.points + 1 {
			bounds = append(bounds, hour(tc.from+i*tc.step))
		}
		b.Run(name, func(b *testing.B) {
			read := func(s *store.Snapshots) func() {
				return func() {
					got, err := s.Aggregate(b.Context(), f.p, bounds)
					if err != nil || len(got.Intervals) != tc.points {
						b.Fatal(len(got.Intervals), err)
					}
				}
			}
			versus.Run(b, versus.Comparison{Raw: read(f.Snapshots), Ours: read(cached.Snapshots)})
		})
	}
}
