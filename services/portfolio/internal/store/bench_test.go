package store_test

import (
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/versus"
	"github.com/purserhq/purser/services/portfolio/internal/store"
)

// firstAggregate is how a timeline was read first, bareAggregate the least that has its figures but open and close.
const (
	firstAggregate = `
		SELECT width_bucket(bucket, $2::timestamptz[]) - 1 AS interval_index,
		       (array_agg(total::text ORDER BY bucket))[1], (array_agg(total::text ORDER BY bucket DESC))[1],
		       min(total)::text, max(total)::text, count(*), bool_and(complete), coalesce(sum(net_flow)::text, '')
		FROM snapshots WHERE portfolio_id = $1 AND bucket >= $3 AND bucket < $4
		GROUP BY interval_index ORDER BY interval_index`
	bareAggregate = `
		SELECT width_bucket(bucket, $2::timestamptz[]) - 1 AS interval_index,
		       min(total)::text, max(total)::text, count(*), bool_and(complete), coalesce(sum(net_flow)::text, '')
		FROM snapshots WHERE portfolio_id = $1 AND bucket >= $3 AND bucket < $4
		GROUP BY interval_index ORDER BY interval_index`
)

// BenchmarkTimeline reads timelines of hourly snapshots: thirty days by the day, and five years in five hundred
// points; from the cache beside Postgres, and from Postgres beside bare SQL and the first statement that read them.
func BenchmarkTimeline(b *testing.B) {
	f := newFixture(b, noRedis)
	for year := range 5 { // one statement for all takes too long for a statement
		_, err := f.db.SQL().ExecContext(b.Context(), `
			INSERT INTO snapshots (portfolio_id, bucket, snapshot_time, price_seq, total, complete, position_count,
			                       incomplete_wallet_count, unpriced_count, stale_price_count, backfilled, measurable,
			                       net_flow)
			SELECT $1, t, t, 0, 1234.56789012 + extract(hour FROM t), true, 1, 0, 0, 0, false, true, 0
			FROM generate_series($2::timestamptz, $3::timestamptz, '1 hour') AS t`,
			f.p.ID, hour(year*365*24), hour((year+1)*365*24-1))
		if err != nil {
			b.Fatal(err)
		}
	}
	if _, err := f.db.SQL().ExecContext(b.Context(), "VACUUM ANALYZE"); err != nil {
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
		read := func(s *store.Snapshots) func() {
			return func() {
				got, err := s.Aggregate(b.Context(), f.p, bounds, "")
				if err != nil || len(got.Intervals) != tc.points {
					b.Fatal(len(got.Intervals), err)
				}
			}
		}
		uncached := func() {
			if got, err := f.AggregateUncached(b.Context(), f.p.ID, bounds); err != nil || len(got) != tc.points {
				b.Fatal(len(got), err)
			}
		}
		for beside, c := range map[string]versus.Comparison{
			"cached beside uncached": {Raw: uncached, Ours: read(cached.Snapshots)},
			"uncached beside bare SQL": {Raw: f.query(b, bareAggregate, bounds), Ours: uncached, Goal: 1.5,
				GoalTime: 15 * time.Millisecond},
			"uncached beside the first build": {Raw: f.query(b, firstAggregate, bounds), Ours: uncached, Goal: 0.25},
		} {
			b.Run(name+" "+beside, func(b *testing.B) { versus.Run(b, c) })
		}
	}
}

// query reads all rows of a statement over the snapshots between bounds.
func (f fixture) query(b *testing.B, statement string, bounds []time.Time) func() {
	return func() {
		rows, err := f.db.SQL().QueryContext(b.Context(), statement, f.p.ID, bounds, bounds[0], bounds[len(bounds)-1])
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = rows.Close() }()
		columns, err := rows.Columns()
		if err != nil {
			b.Fatal(err)
		}
		values := make([]any, len(columns))
		for i := range values {
			values[i] = new(any)
		}
		for rows.Next() {
			if err := rows.Scan(values...); err != nil {
				b.Fatal(err)
			}
		}
		if err := rows.Err(); err != nil {
			b.Fatal(err)
		}
	}
}
