package migrations_test

import (
	"strings"
	"testing"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/jobs"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/internal/erasure"
	"github.com/purserhq/purser/services/internal/feed"
	"github.com/purserhq/purser/services/portfolio/migrations"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// wantTables fails the test unless the first migration has these tables, word for
// word.
func wantTables(t *testing.T, name, tables string) {
	t.Helper()
	text, err := migrations.FS.ReadFile("00001_schema.sql")
	if err != nil || !strings.Contains(string(text), strings.TrimSpace(tables)) {
		t.Errorf("the migrations lack %s, %v; add one that brings the tables up to it", name, err)
	}
}

func TestTheOutboxIsTheOneThatTheCacheWritesTo(t *testing.T) {
	wantTables(t, "cache.Schema", cache.Schema)
}

func TestTheJobTablesAreTheOnesThatTheJobsWriteTo(t *testing.T) {
	wantTables(t, "jobs.Schema", jobs.Schema)
}

func TestTheErasureTablesAreTheOnesThatTheFollowerWritesTo(t *testing.T) {
	wantTables(t, "erasure.Schema", erasure.Schema)
}

func TestTheFeedTablesAreTheOnesThatTheFeedReads(t *testing.T) {
	wantTables(t, "feed.Schema", feed.Schema)
}

// Prices that are in the default partition, because their month had none, are all there when it gets one.
func TestPartitionsKeepWhatIsThere(t *testing.T) {
	db := testkit.Postgres(t, migrations.FS)
	exec := func(statement string) {
		t.Helper()
		if _, err := db.SQL().ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	content := func() (text string) {
		t.Helper()
		err := db.SQL().QueryRowContext(t.Context(), `
			SELECT string_agg(concat_ws(' ', bucket AT TIME ZONE 'UTC', token_id, amount, price, value), E'\n'
			                  ORDER BY bucket, token_id)
			FROM snapshot_positions`).Scan(&text)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	exec(`INSERT INTO portfolios (id, owner_id, name, is_default, created_at)
		VALUES ('00000000-0000-0000-0000-000000000001', gen_random_uuid(), 'a', true, now())`)
	exec("INSERT INTO assets (token_id, symbol, decimals, verified) VALUES ('a', 'A', 0, true), ('b', 'B', 0, true)")
	exec(`INSERT INTO position_changes (portfolio_id, asset, bucket, amount)
		SELECT '00000000-0000-0000-0000-000000000001', id, date_trunc('hour', now()) - interval '90 days', 5
		FROM assets`)
	exec(`INSERT INTO snapshots (portfolio_id, bucket, snapshot_time, price_seq, position_count,
			incomplete_wallet_count, unpriced_count, stale_price_count, complete, backfilled, measurable, total)
		SELECT '00000000-0000-0000-0000-000000000001', h, h, 1, 2, 0, 0, 0, true, false, true, 10
		FROM generate_series(date_trunc('hour', now()) - interval '90 days', now(), interval '10 days') AS h`)
	exec(`INSERT INTO hour_prices (bucket, asset, seq, price_time, stale, price, source, reason)
		SELECT bucket, id, 1, bucket, false, 1, 'test', '' FROM snapshots, assets`)
	inDefault := func() (n int) {
		t.Helper()
		err := db.SQL().QueryRowContext(t.Context(), "SELECT count(*) FROM hour_prices_default").Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if inDefault() == 0 {
		t.Fatal("no price is in the default partition")
	}
	before := content()
	exec(`SELECT make_history_partition('hour_prices', (date_trunc('month', now(), 'UTC') AT TIME ZONE 'UTC' -
		months * interval '1 month')::date) FROM generate_series(1, 4) AS months`)
	if after := content(); after != before || inDefault() > 0 {
		t.Errorf("%d prices are in the default partition; after it\n%s\nbefore:\n%s", inDefault(), after, before)
	}
}
