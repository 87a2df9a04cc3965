package store_test

import (
	"testing"

	"github.com/google/uuid"
)

// everyHour is how positions were stored first: a row of each in each hour.
const everyHour = `
CREATE TABLE first_snapshots (
    portfolio_id uuid NOT NULL, bucket timestamptz NOT NULL, snapshot_time timestamptz NOT NULL,
    currency text NOT NULL, total numeric NOT NULL, complete boolean NOT NULL, position_count integer NOT NULL,
    incomplete_wallet_count integer NOT NULL, unpriced_count integer NOT NULL, stale_price_count integer NOT NULL,
    backfilled boolean NOT NULL, measurable boolean NOT NULL, net_flow numeric,
    PRIMARY KEY (portfolio_id, bucket));
CREATE INDEX ON first_snapshots (portfolio_id, bucket) WHERE measurable;
CREATE INDEX ON first_snapshots (portfolio_id, bucket) WHERE net_flow <> 0;
CREATE INDEX ON first_snapshots (portfolio_id, bucket) WHERE NOT measurable;
CREATE TABLE first_positions (
    portfolio_id uuid NOT NULL, bucket timestamptz NOT NULL, token_id text NOT NULL, symbol text NOT NULL,
    decimals smallint NOT NULL, verified boolean NOT NULL, amount numeric NOT NULL, price numeric,
    price_source text NOT NULL, price_time timestamptz, price_stale boolean NOT NULL, value numeric,
    unpriced_reason text NOT NULL, PRIMARY KEY (portfolio_id, bucket, token_id))`

// BenchmarkStorage measures the bytes of a position and hour, indexes counted: 20 positions of which one changes a
// day, 90 days. Raw is as they were stored first, of one portfolio; prices are shared by the 250 portfolios of Ours.
func BenchmarkStorage(b *testing.B) {
	const hours, positions, first, now = 90 * 24, 20, 1, 250
	f := newFixture(b, noRedis)
	exec := func(statement string, args ...any) {
		b.Helper()
		if _, err := f.db.SQL().ExecContext(b.Context(), statement, args...); err != nil {
			b.Fatal(err)
		}
	}
	f.fiveYears(b)
	exec(`INSERT INTO assets (token_id, symbol, decimals, verified)
		SELECT 'eip155:1/erc20:0x' || md5(n::text) || substr(md5(n::text), 1, 8), 'TKN' || n, 18, true
		FROM generate_series(1, $1) AS n`, positions)
	exec(everyHour)
	for range first {
		id := uuid.New()
		exec(`INSERT INTO first_snapshots SELECT $1, h, h, 'USD', 123456.78901234, true, $4, 0, 0, 0, false, true, 0
			FROM generate_series($2::timestamptz, $3::timestamptz, '1 hour') AS h`, id, hour(0), hour(hours-1),
			positions)
		for day := 0; day < hours; day += 24 {
			exec(`INSERT INTO first_positions
				SELECT $1, h, token_id, symbol, decimals, true, 1234567890123456789 + id, 1234.56789, 'defillama', h,
				       false, 1524.15787532, ''
				FROM generate_series($2::timestamptz, $3::timestamptz, '1 hour') AS h, assets`,
				id, hour(day), hour(day+23))
		}
	}
	exec(`INSERT INTO portfolios (id, owner_id, name, is_default, created_at)
		SELECT gen_random_uuid(), gen_random_uuid(), 'All wallets', true, now() FROM generate_series(2, $1)`, now)
	exec(`INSERT INTO hour_prices SELECT h, id, 1, h, false, 1234.56789, 'defillama', ''
		FROM generate_series($1::timestamptz, $2::timestamptz, '1 hour') AS h, assets`, hour(0), hour(hours-1))
	for h := 0; h < hours; h += 24 { // a day at a time, as hours come
		exec(`INSERT INTO snapshots (portfolio_id, bucket, snapshot_time, price_seq, total, complete, position_count,
				incomplete_wallet_count, unpriced_count, stale_price_count, backfilled, measurable, net_flow,
				membership, held_digest)
			SELECT p.id, h, h, 1, 123456.78901234, true, $3, 0, 0, 0, false, true, 0, 1, gen_random_uuid()
			FROM generate_series($1::timestamptz, $2::timestamptz, '1 hour') AS h, portfolios p`,
			hour(h), hour(h+23), positions)
		exec(`INSERT INTO position_changes (portfolio_id, asset, bucket, amount)
			SELECT p.id, a.id, $1, 1234567890123456789 + $2
			FROM portfolios p, assets a WHERE $2 = 0 OR a.id % $3 = $2 / 24 % $3`, hour(h), h, positions)
	}
	size := func(tables ...string) (bytes float64) {
		for _, table := range tables {
			var n int64
			err := f.db.SQL().QueryRowContext(b.Context(), `SELECT pg_total_relation_size($1::text::regclass) +
				coalesce((SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree($1::text::regclass)
				          WHERE level > 0), 0)`, table).Scan(&n)
			if err != nil {
				b.Fatal(err)
			}
			bytes += float64(n)
		}
		return bytes
	}
	raw := size("first_snapshots", "first_positions") / (first * positions * hours)
	ours := size("snapshots", "position_changes", "hour_prices", "assets") / (now * positions * hours)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ours, "bytes")
	b.ReportMetric(raw, "raw-bytes")
	b.ReportMetric(ours/raw, "ratio")
	b.ReportMetric(0.05, "goal")
}
