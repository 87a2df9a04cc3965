package store_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/big"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/snapshot"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// ownersOfShard is a shard of owners in memory.
type ownersOfShard []snapshot.OwnerHoldings

func (o ownersOfShard) ReadShard(_ context.Context, _, _ int, visit func(snapshot.OwnerHoldings) error) error {
	for _, h := range o {
		if err := visit(h); err != nil {
			return err
		}
	}
	return nil
}

// BenchmarkHourlyJob times an hour of 10,000 portfolios of 20 tokens, from holdings that were read: the second hour of
// the job, in which one token of each 24th has changed. Raw is one INSERT … SELECT that sums the totals up from tables
// of balances and prices. "first" is the time of the first build's way, which is a transaction for each portfolio with
// a row for each position, of 500 portfolios and for as many.
func BenchmarkHourlyJob(b *testing.B) {
	const portfolios, tokens, firstPortfolios = 10_000, 20, 500
	f := newFixture(b, noRedis)
	exec := func(statement string, args ...any) {
		b.Helper()
		if _, err := f.db.SQL().ExecContext(b.Context(), statement, args...); err != nil {
			b.Fatal(err)
		}
	}
	f.fiveYears(b)
	exec("DELETE FROM portfolios")
	exec(`INSERT INTO portfolios (id, owner_id, name, is_default, created_at)
		SELECT gen_random_uuid(), gen_random_uuid(), 'All wallets', true, now() FROM generate_series(1, $1)`,
		portfolios)
	wallet := valuation.Wallet{ID: uuid.NewString(), Account: "eip155:1:0x1", Synced: true}
	exec(`INSERT INTO memberships (portfolio_id, valid_from, number, wallet_ids, wallets_digest, no_wallets)
		SELECT id, '1970-01-01 00:00:00+00', 1, '{}', $1, false FROM portfolios`,
		portfolio.Digest([]valuation.Wallet{wallet}))
	rows, err := f.db.SQL().QueryContext(b.Context(), "SELECT owner_id FROM portfolios ORDER BY owner_id")
	if err != nil {
		b.Fatal(err)
	}
	var owners []uuid.UUID
	for rows.Next() {
		var id uuid.UUID
		if err := rows.Scan(&id); err != nil {
			b.Fatal(err)
		}
		owners = append(owners, id)
	}
	if err := rows.Err(); err != nil {
		b.Fatal(err)
	}
	held := func(h int) (all ownersOfShard) {
		for n, owner := range owners {
			o := snapshot.OwnerHoldings{Owner: owner,
				Wallets: []valuation.Wallet{wallet}}
			o.Wallets[0].SyncTime = hour(h)
			for i := range tokens {
				amount := big.NewInt(1_234_567_890_123_456_789 + int64(n))
				if i == n%tokens && n%24 == h%24 {
					amount.Add(amount, big.NewInt(int64(h)))
				}
				o.Holdings = append(o.Holdings, valuation.Holding{TokenID: fmt.Sprintf("eip155:1/erc20:0x%040d", i),
					Symbol: "T", Decimals: 18, Verified: true, Amount: amount,
					Price: valuation.Price{Amount: "1234.56789", Source: "llama", Time: hour(h)}})
			}
			all = append(all, o)
		}
		return all
	}
	run := func(h int) time.Duration {
		owners := held(h)
		job := snapshot.NewHourlyJob(f.portfolios(b), nil, f.Snapshots, owners,
			func(ctx context.Context) (context.Context, error) { return ctx, nil }, slog.New(slog.DiscardHandler),
			func() time.Time { return hour(h).Add(time.Minute) })
		begun := time.Now()
		if err := job.Run(b.Context(), 0, 1); err != nil {
			b.Fatal(err)
		}
		return time.Since(begun)
	}
	exec(`CREATE TABLE raw_balances (portfolio_id uuid, token int, amount numeric, PRIMARY KEY (portfolio_id, token))`)
	exec(`INSERT INTO raw_balances SELECT id, n, 1234567890123456789 + n FROM portfolios, generate_series(1, $1) AS n`,
		tokens)
	exec(`CREATE TABLE raw_prices (token int PRIMARY KEY, price numeric)`)
	exec(`INSERT INTO raw_prices SELECT n, 1234.56789 FROM generate_series(1, $1) AS n`, tokens)
	exec(`CREATE TABLE raw_totals (portfolio_id uuid, bucket timestamptz, total numeric,
		PRIMARY KEY (portfolio_id, bucket))`)
	exec(everyHour)
	exec("ANALYZE")
	run(0)
	exec("ANALYZE")
	var ours, raw, first time.Duration
	hours := 0
	for b.Loop() {
		hours++
		ours += run(hours)
		begun := time.Now()
		exec(`INSERT INTO raw_totals SELECT portfolio_id, $1, sum(round(amount * price * 1e-18, 8))
			FROM raw_balances JOIN raw_prices USING (token) GROUP BY portfolio_id`, hour(hours))
		raw += time.Since(begun)
		begun = time.Now()
		for n := range firstPortfolios {
			if err := storeAsFirst(b.Context(), f.db.DB, owners[n], hour(hours), tokens); err != nil {
				b.Fatal(err)
			}
		}
		first += time.Since(begun) * portfolios / firstPortfolios
	}
	if n := f.count(b, "SELECT count(*) FROM snapshots WHERE complete"); n != portfolios*(hours+1) {
		b.Fatalf("%d snapshots", n)
	}
	per := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / float64(hours) }
	b.ReportMetric(per(ours), "ns/op")
	b.ReportMetric(per(raw), "raw-ns/op")
	b.ReportMetric(per(first), "first-ns/op")
	b.ReportMetric(per(ours)/per(raw), "ratio")
	b.ReportMetric(2, "goal")
	b.ReportMetric(per(ours)/per(first), "first-ratio")
	b.ReportMetric(0.25, "first-goal")
}

// storeAsFirst stores an hour of a portfolio as the first build did.
func storeAsFirst(ctx context.Context, db *postgres.DB, id uuid.UUID, at time.Time, tokens int) error {
	return postgres.InTx(ctx, db, func(tx *gorm.DB) error {
		if err := tx.Exec(`INSERT INTO first_snapshots VALUES (?, ?, ?, 'USD', 123456.78901234, true, ?, 0, 0, 0,
			false, true, 0)`, id, at, at, tokens).Error; err != nil {
			return err
		}
		return postgres.Raw(tx, func(conn *pgx.Conn) error {
			columns := []string{"portfolio_id", "bucket", "token_id", "symbol", "decimals", "verified", "amount",
				"price", "price_source", "price_time", "price_stale", "value", "unpriced_reason"}
			rows := pgx.CopyFromSlice(tokens, func(i int) ([]any, error) {
				return []any{id, at, fmt.Sprintf("eip155:1/erc20:0x%040d", i), "T", int16(18), true,
					"1234567890123456789", "1234.56789", "llama", at, false, "1524.15787532", ""}, nil
			})
			_, err := conn.CopyFrom(ctx, pgx.Identifier{"first_positions"}, columns, rows)
			return err
		})
	})
}
