package store_test

import (
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/internal/partition"
	"github.com/purserhq/purser/services/portfolio/internal/snapshot"
	"github.com/purserhq/purser/services/portfolio/internal/store"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
	"github.com/purserhq/purser/services/portfolio/migrations"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func (f fixture) exec(t testing.TB, statement string, args ...any) {
	t.Helper()
	if _, err := f.db.SQL().ExecContext(t.Context(), statement, args...); err != nil {
		t.Fatal(err)
	}
}

// backfill values hours as a backfill does, and stores them.
func (f fixture) backfill(t testing.TB, hours ...time.Time) {
	t.Helper()
	var assets []valuation.Assets
	for _, h := range hours {
		a := valued(t, h, holding("a", 5, "2", ""), holding("b", int64(1+h.Day()), "1", ""))
		assets = append(assets, valuation.Assets{At: h, Positions: a.Positions})
	}
	if err := f.AdoptPrices(t.Context(), assets); err != nil {
		t.Fatal(err)
	}
	var values []valuation.Valuation
	for _, a := range assets {
		v, err := a.Value()
		if err != nil {
			t.Fatal(err)
		}
		values = append(values, v)
	}
	if _, err := f.SaveBackfilled(t.Context(), f.p, values); err != nil {
		t.Fatal(err)
	}
}

// places are the partitions of hour_prices that have rows, each with how many.
func (f fixture) places(t testing.TB) (out []string) {
	t.Helper()
	rows, err := f.db.SQL().QueryContext(t.Context(),
		"SELECT tableoid::regclass::text || ':' || count(*) FROM hour_prices GROUP BY tableoid ORDER BY 1")
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

// fiveYears makes the partitions that there are after five years.
func (f fixture) fiveYears(t testing.TB) {
	t.Helper()
	for i := range 60 {
		f.exec(t, "SELECT make_history_partition('hour_prices', $1::date)", day("2021-06-01").AddDate(0, i, 0))
	}
}

func day(text string) time.Time {
	d, err := time.Parse(time.DateOnly, text)
	if err != nil {
		panic(err)
	}
	return d
}

func TestPricesAreInThePartitionOfTheirMonthAndDroppedWithTheirSnapshots(t *testing.T) {
	f := newFixture(t, noRedis)
	partitions := store.NewPartitions(f.db.DB, quiet())
	f.backfill(t, day("2025-03-31")) // before anybody makes partitions
	f.MakePartitions(partitions)
	may, june := day("2025-05-31").Add(23*time.Hour), day("2025-06-01")
	f.backfill(t, may, june, june.Add(time.Hour), day("2025-07-02"))
	want := []string{"hour_prices_202505:2", "hour_prices_202506:4", "hour_prices_202507:2", "hour_prices_default:2"}
	if got := f.places(t); !slices.Equal(got, want) {
		t.Fatalf("prices are in %q", got)
	}
	now := func() time.Time { return day("2025-08-03") }
	var log testkit.LogBuffer
	run := func(kept int) error {
		return partition.NewMaker(partitions, partition.Policy{Ahead: 2, RetentionMonths: kept},
			slog.New(slog.NewTextHandler(&log, nil)), now).BeforeDrop(f.PruneSnapshots).Run(t.Context())
	}
	before := f.positionsOf(t.Context(), t)
	if err := run(0); err != nil {
		t.Fatal(err)
	}
	want[0], want[1], want[2], want[3] = "hour_prices_202503:2", want[0], want[1], want[2]
	if got := f.places(t); !slices.Equal(got, want) || !strings.Contains(log.String(), "had no partition") {
		t.Errorf("prices are in %q; %s", got, log.String())
	}
	list, err := partitions.List(t.Context())
	if n := partition.Ahead(list, "hour_prices", day("2025-08-01")); err != nil || n != 2 {
		t.Errorf("made %d months ahead, %v", n, err)
	}
	// The control: prices that snapshots have are not dropped by themselves.
	err = partition.NewMaker(partitions, partition.Policy{Ahead: 2, RetentionMonths: 2}, quiet(), now).Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "snapshots have the prices of 2025-03-01") {
		t.Errorf("prices that snapshots have are dropped: %v", err)
	}
	for range 2 {
		if err := run(2); err != nil {
			t.Fatal(err)
		}
	}
	if got := f.places(t); !slices.Equal(got, want[2:]) {
		t.Errorf("prices are in %q", got)
	}
	left := f.positionsOf(t.Context(), t)
	if len(left) != 3 {
		t.Errorf("%d snapshots are left", len(left))
	}
	for at, positions := range left {
		if positions != before[at] {
			t.Errorf("at %s: %q, want %q", time.Unix(at, 0).UTC(), positions, before[at])
		}
	}
	// What is asked for again is stored again, until the next run.
	f.backfill(t, may)
	if got := f.positionsOf(t.Context(), t); got[may.Unix()] != before[may.Unix()] || len(got) != 4 {
		t.Errorf("stored again: %v", got)
	}
	if err := run(2); err != nil {
		t.Fatal(err)
	}
	if got := f.positionsOf(t.Context(), t); len(got) != 3 || got[june.Unix()] != before[june.Unix()] {
		t.Errorf("after the next run: %v", got)
	}
}

func TestOnlyMonthsOfPricesHavePartitions(t *testing.T) {
	f := newFixture(t, noRedis)
	for name, call := range map[string]string{
		"another table":         "make_history_partition('snapshots', '2023-05-01')",
		"a name that is SQL":    "make_history_partition('hour_prices; DROP TABLE snapshots', '2023-05-01')",
		"a day":                 "make_history_partition('hour_prices', '2023-05-02')",
		"a far month":           "make_history_partition('hour_prices', '2999-01-01')",
		"before all chains":     "make_history_partition('hour_prices', '2014-12-01')",
		"to drop another table": "drop_history_partition('snapshots', '2023-05-01')",
		"to drop what is new": fmt.Sprintf("drop_history_partition('hour_prices', '%s')",
			partition.Month(time.Now()).Format(time.DateOnly)),
	} {
		if _, err := f.db.SQL().ExecContext(t.Context(), "SELECT "+call); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// The role that serves reads and writes rows, and is not the owner of the tables.
func TestARoleThatOnlyServesMakesPartitions(t *testing.T) {
	f := newFixture(t, noRedis)
	role := "serve_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	f.exec(t, "CREATE ROLE "+role)
	t.Cleanup(func() {
		for _, q := range []string{"DROP OWNED BY " + role, "DROP ROLE " + role} {
			if _, err := f.db.SQL().Exec(q); err != nil {
				t.Log(err)
			}
		}
	})
	f.exec(t, "GRANT USAGE ON SCHEMA public TO "+role)
	f.exec(t, "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO "+role)
	f.exec(t, "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO "+role)
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
	for _, query := range []string{"SELECT make_history_partition('hour_prices', '2021-01-01')",
		"SELECT count(*) FROM hour_prices_202101", "SELECT drop_history_partition('hour_prices', '2021-01-01')"} {
		if err := as(query); err != nil {
			t.Error(err)
		}
	}
	// The control: as a function of the caller it fails.
	f.exec(t, "ALTER FUNCTION make_history_partition SECURITY INVOKER")
	if err := as("SELECT make_history_partition('hour_prices', '2021-01-01')"); err == nil {
		t.Error("without the owner's rights it works too")
	}
}

var partitionName = regexp.MustCompile(`hour_prices_(?:\d{6}|default)`)

// Prices of some hours are read from the partitions of their months alone, planned for these hours.
func TestPricesOfHoursReadTheirMonthsAlone(t *testing.T) {
	f := newFixture(t, noRedis)
	partitions := store.NewPartitions(f.db.DB, quiet())
	for i := range 24 {
		if _, err := partitions.Make(t.Context(), "hour_prices", day("2023-01-01").AddDate(0, i, 0)); err != nil {
			t.Fatal(err)
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
	first, last := day("2024-05-10"), day("2024-05-12")
	hours, ids, seqs := []time.Time{first, last}, []int32{1, 1}, []int64{1, 1}
	got := slices.Concat(explain(store.PricesOfHours, ids, hours, seqs, first, last),
		explain(store.UnpricedPositions, ids, ids, hours, seqs, snapshot.MaxPriceGap, first, last))
	slices.Sort(got)
	if got := slices.Compact(got); !slices.Equal(got, []string{"hour_prices_202405"}) {
		t.Errorf("two days of May read %q", got)
	}
}

// The schema begins with the partitions of these months.
func TestTheSchemaHasTheComingMonths(t *testing.T) {
	db := testkit.Postgres(t, migrations.FS)
	list, err := store.NewPartitions(db.DB, quiet()).List(t.Context())
	if n := partition.Ahead(list, "hour_prices", partition.Month(time.Now())); err != nil || n < 2 {
		t.Errorf("made %d months ahead, %v", n, err)
	}
}
