package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/faultproxy"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func open(t *testing.T, o postgres.Options) *postgres.DB {
	t.Helper()
	db, err := postgres.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func migration(up, down string) *fstest.MapFile {
	return &fstest.MapFile{Data: []byte("-- +goose Up\n" + up + "\n-- +goose Down\n" + down + "\n")}
}

func accounts() fs.FS {
	return fstest.MapFS{"00001_accounts.sql": migration(
		`CREATE TABLE accounts (id bigint PRIMARY KEY, owner text CONSTRAINT accounts_owner_key UNIQUE,
		  amount numeric NOT NULL DEFAULT 0);`,
		`DROP TABLE accounts;`)}
}

func count(t *testing.T, db *postgres.DB) (n int64) {
	t.Helper()
	if err := db.Gorm(t.Context()).Table("accounts").Count(&n).Error; err != nil {
		t.Fatal(err)
	}
	return n
}

func TestEachTestHasADatabaseOfItsOwn(t *testing.T) {
	for i := range 4 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			db := testkit.Postgres(t, accounts())
			if n := count(t, db.DB); n != 0 {
				t.Fatalf("%d rows of another test", n)
			}
			if err := db.Gorm(t.Context()).Exec(`INSERT INTO accounts (id) VALUES (1)`).Error; err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestTheServerLimitsEachStatement(t *testing.T) {
	own := testkit.Postgres(t, nil)
	db := open(t, postgres.Options{URL: own.URL, Name: "wallet", StatementTimeout: 500 * time.Millisecond,
		LockTimeout: 20 * time.Millisecond})
	var name, statement, lock string
	row := db.SQL().QueryRowContext(t.Context(),
		`SELECT current_setting('application_name'), current_setting('statement_timeout'),
		  current_setting('lock_timeout')`)
	if err := row.Scan(&name, &statement, &lock); err != nil {
		t.Fatal(err)
	}
	if name != "wallet" || statement != "500ms" || lock != "20ms" {
		t.Fatal(name, statement, lock)
	}
	if err := db.Gorm(t.Context()).Exec(`SELECT pg_sleep(60)`).Error; err == nil ||
		!strings.Contains(err.Error(), "57014") {
		t.Fatal(err)
	}
}

func TestAServiceRecoversWhenPostgresComesBack(t *testing.T) {
	server := testkit.OwnPostgres(t)
	db := open(t, postgres.Options{URL: server.URL("postgres"), Lazy: true, ConnectTimeout: 10 * time.Second})
	works := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		return postgres.InTx(ctx, db, func(tx *gorm.DB) error { return tx.Exec(`SELECT 1`).Error })
	}
	if err := works(); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	for range 3 { // the pool's dead connections, then the refused ones
		if err := works(); err == nil || !postgres.IsUnavailable(err) {
			t.Fatalf("without a server: %v", err)
		}
	}
	if _, err := postgres.Open(t.Context(), postgres.Options{URL: server.URL("postgres")}); !postgres.IsUnavailable(
		err) {
		t.Fatalf("open without a server: %v", err)
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, time.Minute, func() bool { return works() == nil })
}

func TestAnUnreachableServerIsAnErrorWithinTheConnectTimeout(t *testing.T) {
	server := testkit.OwnPostgres(t)
	server.Pause()
	begin := time.Now()
	_, err := postgres.Open(t.Context(), postgres.Options{URL: server.URL("postgres"),
		ConnectTimeout: 200 * time.Millisecond})
	if !postgres.IsUnavailable(err) || time.Since(begin) > 2*time.Second {
		t.Fatal(time.Since(begin), err)
	}
	server.Resume()
}

func TestOpenWaitsForADatabaseThatIsAwayButNotForOneThatRefuses(t *testing.T) {
	own := testkit.Postgres(t, nil)
	u, err := url.Parse(own.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := testkit.Proxy(t, u.Host)
	u.Host = proxy.Addr()
	proxy.ToServer(faultproxy.Fault{Reset: true})
	var log testkit.LogBuffer
	opened := make(chan error, 1)
	go func() {
		db, err := postgres.Open(t.Context(), postgres.Options{URL: u.String(), Wait: time.Minute,
			Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err == nil {
			err = db.Close()
		}
		opened <- err
	}()
	testkit.Eventually(t, time.Minute, func() bool {
		return strings.Contains(log.String(), "waiting for the database")
	})
	proxy.Heal()
	if err := testkit.Receive(t, opened, 30*time.Second); err != nil {
		t.Error(err)
	}
	u.Path = "/none"
	if _, err := postgres.Open(t.Context(), postgres.Options{URL: u.String(), Wait: time.Hour}); err == nil ||
		!strings.Contains(err.Error(), "3D000") {
		t.Errorf("a database that is not there: %v", err)
	}
}

func TestAPoolThatIsUsedUpIsUnavailable(t *testing.T) {
	own := testkit.Postgres(t, nil)
	db := open(t, postgres.Options{URL: own.URL, MaxOpenConns: 1, PoolTimeout: 500 * time.Millisecond})
	err := postgres.InTx(t.Context(), db, func(*gorm.DB) error {
		return postgres.InTx(t.Context(), db, func(*gorm.DB) error { return nil })
	})
	if !postgres.IsUnavailable(err) {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := db.Gorm(ctx).Exec(`SELECT 1`).Error; err == nil || postgres.IsUnavailable(err) {
		t.Fatalf("the caller's own cancellation: %v", err)
	}
}

func TestADuplicateIsToldByItsConstraint(t *testing.T) {
	db := testkit.Postgres(t, accounts())
	insert := func(id int, owner string) error {
		return db.Gorm(t.Context()).Exec(`INSERT INTO accounts (id, owner) VALUES (?, ?)`, id, owner).Error
	}
	if err := insert(1, "ann"); err != nil {
		t.Fatal(err)
	}
	err := insert(2, "ann")
	if !postgres.IsUniqueViolation(err, "accounts_owner_key") || !postgres.IsUniqueViolation(err, "") ||
		postgres.IsUniqueViolation(err, "accounts_pkey") {
		t.Fatal(err)
	}
	if !errors.Is(err, gorm.ErrDuplicatedKey) {
		t.Fatal(err)
	}
}

func TestNoPasswordAndNoValueGetsOut(t *testing.T) {
	const secret = "hunter2secret"
	var log bytes.Buffer
	spans := tracetest.NewInMemoryExporter()
	tracing := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	own := testkit.Postgres(t, accounts())
	db := open(t, postgres.Options{
		URL: own.URL, SlowQuery: time.Nanosecond, Log: slog.New(slog.NewJSONHandler(&log, nil)),
		TracerProvider: tracing,
	})
	ctx, span := tracing.Tracer("test").Start(t.Context(), "call")
	defer span.End() // otelpgx traces only inside a span
	if err := db.Gorm(ctx).Exec(`INSERT INTO accounts (id, owner) VALUES (?, ?)`, 1, secret).Error; err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "INSERT INTO accounts") {
		t.Fatalf("no slow statement in %q", log.String())
	}
	if len(spans.GetSpans()) == 0 {
		t.Fatal("no span")
	}
	out := log.String() + fmt.Sprintf("%+v", spans.GetSpans())
	server := strings.Replace(own.URL, "postgres://", "", 1)
	_, host, _ := strings.Cut(server, "@")
	for _, url := range []string{
		"postgres://postgres:" + secret + "@" + host,
		"postgres://postgres:" + secret + "@127.0.0.1:1/x",
		"postgres://postgres:" + secret + "@127.0.0.1:notaport/x",
		"postgres://postgres:" + secret + "%zz@127.0.0.1/x",
		"postgres://postgres:" + secret + "@127.0.0.1/x?sslmode=" + secret,
		"postgress://postgres:" + secret + "@127.0.0.1/x?connect_timeout=" + secret,
		"host=127.0.0.1 password=" + secret + " port=zz",
		secret,
	} {
		_, err := postgres.Open(t.Context(), postgres.Options{URL: url, ConnectTimeout: time.Second})
		if err == nil {
			t.Fatalf("%s opened", url)
		}
		out += err.Error()
	}
	if i := strings.Index(out, secret); i >= 0 {
		t.Fatalf("leaked: …%s", out[max(0, i-200):i])
	}
}

func TestCopyIsPartOfTheTransaction(t *testing.T) {
	db := testkit.Postgres(t, accounts())
	boom := errors.New("boom")
	load := func(tx *gorm.DB) error {
		return postgres.Raw(tx, func(c *pgx.Conn) error {
			_, err := c.CopyFrom(t.Context(), pgx.Identifier{"accounts"}, []string{"id"},
				pgx.CopyFromRows([][]any{{1}, {2}}))
			return err
		})
	}
	err := postgres.InTx(t.Context(), db.DB, func(tx *gorm.DB) error {
		if err := load(tx); err != nil {
			return err
		}
		var n int64
		if err := tx.Table("accounts").Count(&n).Error; err != nil || n != 2 {
			t.Errorf("the transaction sees %d rows, %v", n, err)
		}
		return boom
	})
	if !errors.Is(err, boom) {
		t.Fatal(err)
	}
	if n := count(t, db.DB); n != 0 {
		t.Fatalf("%d rows outlived the rollback", n)
	}
	if err := postgres.InTx(t.Context(), db.DB, load); err != nil {
		t.Fatal(err)
	}
	if n := count(t, db.DB); n != 2 {
		t.Fatalf("%d rows", n)
	}
	if err := load(db.Gorm(t.Context())); err == nil {
		t.Fatal("Raw took a handle that is no transaction")
	}
}

func TestASerializationFailureIsRetriedAndNothingIsLost(t *testing.T) {
	db := testkit.Postgres(t, accounts())
	if err := db.Gorm(t.Context()).Exec(`INSERT INTO accounts (id) VALUES (1)`).Error; err != nil {
		t.Fatal(err)
	}
	var runs, done atomic.Int64
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			err := postgres.InTx(t.Context(), db.DB, func(tx *gorm.DB) error {
				runs.Add(1)
				var amount int64
				if err := tx.Raw(`SELECT amount FROM accounts WHERE id = 1`).Scan(&amount).Error; err != nil {
					return err
				}
				return tx.Exec(`UPDATE accounts SET amount = ? WHERE id = 1`, amount+1).Error
			}, postgres.Serializable)
			if err != nil {
				t.Error(err)
				return
			}
			done.Add(1)
		})
	}
	wg.Wait()
	var amount int64
	if err := db.Gorm(t.Context()).Raw(`SELECT amount FROM accounts`).Scan(&amount).Error; err != nil ||
		amount != done.Load() {
		t.Fatal(amount, done.Load(), err)
	}
	t.Logf("%d runs for %d commits", runs.Load(), done.Load())
}

func TestTheRetryIsBoundedAndOnlyWhereAsked(t *testing.T) {
	db := testkit.Postgres(t, nil)
	for code, want := range map[string]int{"40001": 5, "40P01": 5, "23505": 1, "P0001": 1} {
		runs := 0
		err := postgres.InTx(t.Context(), db.DB, func(tx *gorm.DB) error {
			runs++
			return tx.Exec(`DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '` + code + `'; END $$`).Error
		})
		if err == nil || runs != want {
			t.Errorf("%s: %d runs, want %d: %v", code, runs, want, err)
		}
	}
}

func TestAPanicRollsBackAndGivesTheConnectionBack(t *testing.T) {
	own := testkit.Postgres(t, accounts())
	db := open(t, postgres.Options{URL: own.URL, MaxOpenConns: 1})
	func() {
		defer func() { _ = recover() }()
		_ = postgres.InTx(t.Context(), db, func(tx *gorm.DB) error {
			tx.Exec(`INSERT INTO accounts (id) VALUES (1)`)
			panic("boom")
		})
	}()
	if n := count(t, db); n != 0 {
		t.Fatalf("%d rows", n)
	}
}
