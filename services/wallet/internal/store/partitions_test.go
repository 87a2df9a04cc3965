package store_test

import (
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/holiman/uint256"
	"github.com/jackc/pgx/v5"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/internal/partition"
	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/history"
	"github.com/purserhq/purser/services/wallet/internal/store"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
	"github.com/purserhq/purser/services/wallet/migrations"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func month(text string) time.Time {
	m, err := time.Parse("2006-01", text)
	if err != nil {
		panic(err)
	}
	return m
}

// hourOf is an hour of a wallet that holds one token, in each hour another amount.
func (f fixture) hourOf(w wallet.Wallet, hour time.Time) history.HourBalances {
	return history.HourBalances{
		Record: history.Record{WalletHour: history.WalletHour{Wallet: w.ID, Hour: hour.Unix()}, AssetCount: 3,
			ReadAt: hour},
		Chain: 1, Block: block.Block{Number: 1, Time: hour},
		Balances: map[string]uint256.Int{f.tokens[0].ID: *uint256.NewInt(uint64(hour.Unix()))},
	}
}

// places are the partitions that have rows, each with how many.
func (f fixture) places(t *testing.T, table string) (out []string) {
	t.Helper()
	rows, err := f.db.SQL().QueryContext(t.Context(), "SELECT tableoid::regclass::text || ':' || count(*) FROM "+table+
		" GROUP BY tableoid ORDER BY 1")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
		out = append(out, text)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestHistoryIsInThePartitionOfItsMonth(t *testing.T) {
	f := newFixture(t)
	w := f.create(t, f.owner, 1)
	partitions := store.NewPartitions(f.db.DB, quiet())
	past := store.NewHistory(f.db.DB, partitions)
	may, june := month("2023-05").Add(5*time.Hour), month("2023-06")
	if err := past.SaveBalances(t.Context(), []history.HourBalances{f.hourOf(w, may), f.hourOf(w, june),
		f.hourOf(w, june.Add(-time.Hour))}); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"wallet_history", "balance_history"} {
		if got := f.places(t, table); !slices.Equal(got, []string{table + "_202305:2", table + "_202306:1"}) {
			t.Errorf("rows are in %q", got)
		}
	}
	// What comes before its partition does: the job moves it.
	exec := func(query string, args ...any) {
		t.Helper()
		if _, err := f.db.SQL().ExecContext(t.Context(), query, args...); err != nil {
			t.Fatal(err)
		}
	}
	stray := month("2022-03").Add(time.Hour)
	exec(`INSERT INTO wallet_history (wallet_id, hour, hours, asset_count, read_at) VALUES ($1, $2, 1, 3, now())`,
		w.ID, stray)
	exec(`INSERT INTO balance_history (wallet_id, hour, token_id, amount) VALUES ($1, $2, $3, 7)`, w.ID, stray,
		f.tokens[0].ID)
	if got := f.places(t, "balance_history"); !slices.Contains(got, "balance_history_default:1") {
		t.Fatalf("rows are in %q", got)
	}
	var log testkit.LogBuffer
	now := func() time.Time { return month("2023-08").Add(50 * time.Hour) }
	maker := partition.NewMaker(partitions, partition.Policy{Ahead: 2}, slog.New(slog.NewTextHandler(&log, nil)), now)
	if err := maker.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "rows of the history had no partition") {
		t.Errorf("nothing is told of rows without a partition: %s", log.String())
	}
	want := []string{"balance_history_202203:1", "balance_history_202305:2", "balance_history_202306:1"}
	if got := f.places(t, "balance_history"); !slices.Equal(got, want) {
		t.Errorf("rows are in %q", got)
	}
	list, err := partitions.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range partitions.Tables() {
		if n := partition.Ahead(list, table.Name, month("2023-08")); n != 2 {
			t.Errorf("%s is made %d months ahead", table.Name, n)
		}
	}
	// Months that are old are dropped, of balances only.
	maker = partition.NewMaker(partitions, partition.Policy{Ahead: 2, RetentionMonths: 2}, quiet(), now)
	if _, err := partitions.Make(t.Context(), "price_history", month("2022-03")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := maker.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := f.places(t, "balance_history"); !slices.Equal(got, []string{"balance_history_202306:1"}) {
		t.Errorf("rows are in %q", got)
	}
	list, err = partitions.List(t.Context())
	old := func(p partition.Partition) bool { return p.Name == "price_history_202203" }
	if err != nil || !slices.ContainsFunc(list, old) {
		t.Errorf("old prices were dropped: %v, %v", list, err)
	}
	// The wallet goes with its rows in all partitions.
	if removed, err := f.Delete(t.Context(), f.owner, w.ID, 0, nil); err != nil || removed.HistoryHours != 1 {
		t.Error(removed, err)
	}
}

func TestOnlyMonthsOfTheHistoryHavePartitions(t *testing.T) {
	f := newFixture(t)
	for name, call := range map[string]string{
		"another table":         "make_history_partition('wallets', '2023-05-01')",
		"a name that is SQL":    "make_history_partition('wallet_history; DROP TABLE wallets', '2023-05-01')",
		"a day":                 "make_history_partition('wallet_history', '2023-05-02')",
		"a far month":           "make_history_partition('wallet_history', '2999-01-01')",
		"before all chains":     "make_history_partition('wallet_history', '2014-12-01')",
		"to drop prices":        "drop_history_partition('price_history', '2023-05-01')",
		"to drop another table": "drop_history_partition('wallets', '2023-05-01')",
		"to drop what is new": fmt.Sprintf("drop_history_partition('wallet_history', '%s')",
			partition.Month(time.Now()).Format(time.DateOnly)),
	} {
		if _, err := f.db.SQL().ExecContext(t.Context(), "SELECT "+call); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// The role that serves reads and writes rows, and is not the owner of the tables.
func TestARoleThatOnlyServesMakesPartitions(t *testing.T) {
	f := newFixture(t)
	role := "serve_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	exec := func(query string) {
		t.Helper()
		if _, err := f.db.SQL().ExecContext(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	exec("CREATE ROLE " + role)
	t.Cleanup(func() {
		for _, q := range []string{"DROP OWNED BY " + role, "DROP ROLE " + role} {
			if err := f.db.Gorm(t.Context()).WithContext(t.Context()).Exec(q).Error; err != nil {
				t.Log(err)
			}
		}
	})
	exec("GRANT USAGE ON SCHEMA public TO " + role)
	exec("ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO " + role)
	exec("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO " + role)
	as := func(query string) error {
		return postgres.InTx(t.Context(), f.db.DB, func(tx *gorm.DB) error {
			if err := tx.Exec("SET LOCAL ROLE " + role).Error; err != nil {
				return err
			}
			return tx.Exec(query).Error
		})
	}
	if err := as("CREATE TABLE mine (n int)"); err == nil {
		t.Fatal("the role may make tables")
	}
	if err := as("SELECT make_history_partition('balance_history', '2021-01-01')"); err != nil {
		t.Error(err)
	}
	if err := as("SELECT count(*) FROM balance_history_202101"); err != nil {
		t.Errorf("it can't read the partition that it made: %v", err)
	}
	if err := as("SELECT drop_history_partition('balance_history', '2021-01-01')"); err != nil {
		t.Error(err)
	}
	// The control: as a function of the caller it fails.
	exec("ALTER FUNCTION make_history_partition SECURITY INVOKER")
	if err := as("SELECT make_history_partition('balance_history', '2021-01-01')"); err == nil {
		t.Error("without the owner's rights it works too")
	}
}

// Partitions are made while rows come, by several replicas: no row is lost, and none stays in the default partition.
func TestPartitionsAreMadeWhileRowsCome(t *testing.T) {
	f := newFixture(t)
	w := f.create(t, f.owner, 1)
	const months, perMonth = 6, 20
	var all sync.WaitGroup
	for i := range 4 { // replicas, each with its own knowledge of what is there
		past := store.NewHistory(f.db.DB, store.NewPartitions(f.db.DB, quiet()))
		all.Go(func() {
			for n := range months * perMonth {
				if n%4 != i {
					continue
				}
				hour := month("2020-01").AddDate(0, n/perMonth, 0).Add(time.Duration(n%perMonth) * time.Hour)
				if err := past.SaveBalances(t.Context(), []history.HourBalances{f.hourOf(w, hour)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	maker := partition.NewMaker(store.NewPartitions(f.db.DB, quiet()), partition.Policy{Ahead: 1}, quiet(), time.Now)
	if err := maker.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	var want []string
	for i := range months {
		want = append(want, fmt.Sprintf("balance_history_20200%d:%d", i+1, perMonth))
	}
	if got := f.places(t, "balance_history"); !slices.Equal(got, want) {
		t.Errorf("rows are in %q", got)
	}
}

// A transaction that adds a token and then what was held of it meets the making of a partition: they don't wait for
// each other.
func TestAPartitionIsMadeWhileTokensAreAdded(t *testing.T) {
	f := newFixture(t)
	w := f.create(t, f.owner, 1)
	tx, err := f.db.SQL().BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	exec := func(query string, args ...any) {
		t.Helper()
		if _, err := tx.ExecContext(t.Context(), query, args...); err != nil {
			t.Fatal(err)
		}
	}
	exec(`INSERT INTO tokens (id, chain, contract, symbol, name, decimals, verified)
		VALUES ('new', 'eip155:1', 'new', 'NEW', 'New', 18, false)`)
	made := make(chan error, 1)
	go func() {
		_, err := store.NewPartitions(f.db.DB, quiet()).Make(t.Context(), "balance_history", month("2020-01"))
		made <- err
	}()
	testkit.Eventually(t, time.Minute, func() bool {
		var waiting bool
		err := f.db.SQL().QueryRowContext(t.Context(), `SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND
			relation IN ('tokens'::regclass, 'wallets'::regclass))`).Scan(&waiting)
		return err == nil && waiting
	})
	exec(`INSERT INTO balance_history (wallet_id, hour, token_id, amount)
		VALUES ($1, '2020-01-01T00:00:00Z', 'new', 1)`, w.ID)
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := testkit.Receive(t, made, time.Minute); err != nil {
		t.Fatal(err)
	}
	if got := f.places(t, "balance_history"); !slices.Equal(got, []string{"balance_history_202001:1"}) {
		t.Errorf("rows are in %q", got)
	}
}

// Rows are moved to their partition while others read them: nobody misses one.
func TestRowsAreSeenWhileTheyAreMovedToTheirPartition(t *testing.T) {
	f := newFixture(t)
	w := f.create(t, f.owner, 1)
	const months, rows = 12, 360
	_, err := f.db.SQL().ExecContext(t.Context(), `
		INSERT INTO balance_history (wallet_id, hour, token_id, amount)
		SELECT $1, '2020-01-01T00:00:00Z'::timestamptz + i * interval '1 day', $2, 1
		FROM generate_series(0, $3::int - 1) AS i`, w.ID, f.tokens[0].ID, rows)
	if err != nil {
		t.Fatal(err)
	}
	made := make(chan struct{})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for {
				var n int
				err := f.db.SQL().QueryRowContext(t.Context(), "SELECT count(*) FROM balance_history").Scan(&n)
				if err != nil || n != rows {
					t.Errorf("%d rows of %d are seen, %v", n, rows, err)
					return
				}
				select {
				case <-made:
					return
				default:
				}
			}
		})
	}
	partitions := store.NewPartitions(f.db.DB, quiet())
	for i := range months {
		if _, err := partitions.Make(t.Context(), "balance_history", month("2020-01").AddDate(0, i, 0)); err != nil {
			t.Error(err)
		}
	}
	close(made)
	readers.Wait()
	if got := f.places(t, "balance_history"); len(got) != months {
		t.Errorf("rows are in %q", got)
	}
}

var partitionName = regexp.MustCompile(`(?:wallet|balance|price)_history_(?:\d{6}|default)`)

// A page of the past reads the partitions of its months alone.
func TestPagesOfThePastReadTheirMonthsAlone(t *testing.T) {
	f := newFixture(t)
	partitions := store.NewPartitions(f.db.DB, quiet())
	for i := range 24 {
		for _, table := range partitions.Tables() {
			if _, err := partitions.Make(t.Context(), table.Name, month("2022-01").AddDate(0, i, 0)); err != nil {
				t.Fatal(err)
			}
		}
	}
	explain := func(query string, args ...any) []string {
		t.Helper()
		var lines []string
		err := postgres.InTx(t.Context(), f.db.DB, func(tx *gorm.DB) error {
			return postgres.Raw(tx, func(conn *pgx.Conn) error {
				rows, err := conn.Query(t.Context(), "EXPLAIN "+query, args...)
				if err == nil {
					lines, err = pgx.CollectRows(rows, pgx.RowTo[string])
				}
				return err
			})
		})
		if err != nil {
			t.Fatal(err)
		}
		found := partitionName.FindAllString(strings.Join(lines, "\n"), -1)
		slices.Sort(found)
		return slices.Compact(found)
	}
	from, until := month("2023-05").Add(time.Hour), month("2023-05").Add(49*time.Hour)
	wallets, frame := []uuid.UUID{f.owner}, history.Frame(from)
	got := slices.Concat(explain(store.ReadChangedAmounts, wallets, frame, until),
		explain(store.ReadPastQuotes, []string{f.tokens[0].ID}, from, until),
		explain(store.ReadRanges, f.owner, frame, until))
	// An index's name begins as its partition's.
	if !slices.Equal(got, []string{"balance_history_202305", "price_history_202305", "wallet_history_202305"}) {
		t.Errorf("two days of May read %q", got)
	}
}

// The schema begins with the partitions of these months.
func TestTheSchemaHasTheComingMonths(t *testing.T) {
	db := testkit.Postgres(t, migrations.FS)
	partitions := store.NewPartitions(db.DB, quiet())
	list, err := partitions.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range partitions.Tables() {
		if n := partition.Ahead(list, table.Name, partition.Month(time.Now())); n < 2 {
			t.Errorf("%s is made %d months ahead", table.Name, n)
		}
	}
}
