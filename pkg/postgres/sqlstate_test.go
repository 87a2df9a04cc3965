package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/testkit"
)

// Each state is raised by the server itself, on a statement and in a transaction, and classified the same.
func TestEachStateOfTheServerHasOneMeaning(t *testing.T) {
	db := testkit.Postgres(t, nil)
	const fault = "" // of the service: no reason
	for code, want := range map[string]struct {
		kind   errs.Kind
		reason string
	}{
		"08000": {errs.KindUnavailable, "DATABASE_UNAVAILABLE"},
		"08006": {errs.KindUnavailable, "DATABASE_UNAVAILABLE"},
		"08P01": {errs.KindUnavailable, "DATABASE_UNAVAILABLE"},
		"0A000": {errs.KindInternal, fault}, "21000": {errs.KindInternal, fault},
		"22003": {errs.KindInternal, fault}, "22012": {errs.KindInternal, fault}, "22P02": {errs.KindInternal, fault},
		"22021": {errs.KindInvalid, "TEXT_NOT_STORABLE"}, "22P05": {errs.KindInvalid, "TEXT_NOT_STORABLE"},
		"23502": {errs.KindInternal, fault}, "23514": {errs.KindInternal, fault},
		"23503": {errs.KindConflict, "DATABASE_CONFLICT"}, "23505": {errs.KindConflict, "DATABASE_CONFLICT"},
		"23P01": {errs.KindConflict, "DATABASE_CONFLICT"},
		"25006": {errs.KindUnavailable, "DATABASE_READ_ONLY"}, "25P02": {errs.KindInternal, fault},
		"25P03": {errs.KindUnavailable, "DATABASE_BUSY"}, "25P04": {errs.KindUnavailable, "DATABASE_BUSY"},
		"28000": {errs.KindUnavailable, "DATABASE_UNAVAILABLE"},
		"28P01": {errs.KindUnavailable, "DATABASE_UNAVAILABLE"},
		"3D000": {errs.KindUnavailable, "DATABASE_UNAVAILABLE"},
		"26000": {errs.KindUnavailable, "DATABASE_UNAVAILABLE"},
		"42P05": {errs.KindUnavailable, "DATABASE_UNAVAILABLE"},
		"40001": {errs.KindConflict, "DATABASE_CONFLICT"}, "40P01": {errs.KindConflict, "DATABASE_CONFLICT"},
		"40002": {errs.KindInternal, fault},
		"42P01": {errs.KindInternal, fault}, "42501": {errs.KindInternal, fault}, "42601": {errs.KindInternal, fault},
		"53000": {errs.KindUnavailable, "DATABASE_EXHAUSTED"}, "53100": {errs.KindUnavailable, "DATABASE_DISK_FULL"},
		"53200": {errs.KindUnavailable, "DATABASE_OUT_OF_MEMORY"},
		"53300": {errs.KindUnavailable, "DATABASE_UNAVAILABLE"}, "53400": {errs.KindUnavailable, "DATABASE_EXHAUSTED"},
		"54000": {errs.KindInternal, fault}, "55000": {errs.KindInternal, fault},
		"55P03": {errs.KindUnavailable, "DATABASE_BUSY"}, "57014": {errs.KindUnavailable, "DATABASE_BUSY"},
		"57P01": {errs.KindUnavailable, "DATABASE_UNAVAILABLE"},
		"57P02": {errs.KindUnavailable, "DATABASE_UNAVAILABLE"},
		"57P03": {errs.KindUnavailable, "DATABASE_UNAVAILABLE"},
		"57P05": {errs.KindUnavailable, "DATABASE_UNAVAILABLE"},
		"58000": {errs.KindUnavailable, "DATABASE_SYSTEM_ERROR"},
		"58030": {errs.KindUnavailable, "DATABASE_SYSTEM_ERROR"},
		"XX000": {errs.KindInternal, fault}, "XX001": {errs.KindInternal, fault}, "P0001": {errs.KindInternal, fault},
	} {
		raise := `DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '` + code + `'; END $$`
		for how, err := range map[string]error{
			"statement": db.Gorm(t.Context()).Exec(raise).Error,
			"transaction": postgres.InTx(t.Context(), db.DB,
				func(tx *gorm.DB) error { return tx.Exec(raise).Error }),
		} {
			err = fmt.Errorf("a store adds what it did: %w", err)
			got := postgres.Translate(err)
			e := errs.As(got)
			switch {
			case want.reason == fault:
				if !errors.Is(got, err) || e != nil {
					t.Errorf("%s, %s: %v, want the error unchanged", code, how, got)
				}
			case e == nil || e.Kind != want.kind || e.Reason != want.reason || !errors.Is(got, err) ||
				(e.RetryAfter > 0) != (e.Kind == errs.KindUnavailable):
				t.Errorf("%s, %s: %#v, want %s %s", code, how, e, want.kind, want.reason)
			case !errors.Is(postgres.Translate(got), got):
				t.Errorf("%s: it is not translated once", code)
			}
			unavailable := want.kind == errs.KindUnavailable && want.reason != "DATABASE_BUSY"
			if postgres.IsUnavailable(err) != unavailable {
				t.Errorf("%s, %s: unavailable is not %t", code, how, unavailable)
			}
		}
	}
}

// The states that can be had without damage, as they come about.
func TestWhatTheServerAnswersWhenItHappens(t *testing.T) {
	db := testkit.Postgres(t, accounts())
	g := db.Gorm(t.Context())
	if err := g.Exec(`INSERT INTO accounts (id, owner) VALUES (1, 'ann'), (2, 'bob');
		CREATE TABLE notes (account bigint REFERENCES accounts (id), text text)`).Error; err != nil {
		t.Fatal(err)
	}
	limited := open(t, postgres.Options{URL: db.URL, LockTimeout: 50_000_000, StatementTimeout: 100_000_000})
	for name, tc := range map[string]struct {
		do     func() error
		reason string
	}{
		"a second owner": {func() error { return g.Exec(`INSERT INTO accounts (id, owner) VALUES (3, 'ann')`).Error },
			"DATABASE_CONFLICT"},
		"a parent that is gone": {func() error { return g.Exec(`INSERT INTO notes (account) VALUES (99)`).Error },
			"DATABASE_CONFLICT"},
		"a NUL in a text": {func() error { return g.Exec(`INSERT INTO notes (text) VALUES (?)`, "a\x00b").Error },
			"TEXT_NOT_STORABLE"},
		"a text that is no UTF-8": {func() error {
			return g.Exec(`INSERT INTO notes (text) VALUES (?)`, "a\xff").Error
		}, "TEXT_NOT_STORABLE"},
		"a write to a standby": {func() error {
			return postgres.InTx(t.Context(), db.DB, func(tx *gorm.DB) error {
				return tx.Exec(`INSERT INTO accounts (id) VALUES (4)`).Error
			}, postgres.ReadOnly)
		}, "DATABASE_READ_ONLY"},
		"a statement that takes too long": {func() error {
			return limited.Gorm(t.Context()).Exec(`SELECT pg_sleep(10)`).Error
		}, "DATABASE_BUSY"},
		"a lock that is not given": {func() error {
			return postgres.InTx(t.Context(), db.DB, func(tx *gorm.DB) error {
				if err := tx.Exec(`SELECT FROM accounts WHERE id = 1 FOR UPDATE`).Error; err != nil {
					return err
				}
				return limited.Gorm(t.Context()).Exec(`UPDATE accounts SET amount = 1 WHERE id = 1`).Error
			})
		}, "DATABASE_BUSY"},
		"a deadlock": {func() error { return deadlock(t, db.DB) }, "DATABASE_CONFLICT"},
		"a wrong password": {func() error {
			return connect(t, db.URL, func(c *pgx.ConnConfig) { c.Password = "wrong" })
		}, "DATABASE_UNAVAILABLE"},
		"a database that is not there": {func() error {
			return connect(t, db.URL, func(c *pgx.ConnConfig) { c.Database = "none" })
		}, "DATABASE_UNAVAILABLE"},
		"a setting that the server doesn't know": {func() error {
			return connect(t, db.URL, func(c *pgx.ConnConfig) { c.RuntimeParams["colour"] = "red" })
		}, "DATABASE_UNAVAILABLE"},
		"a backend that is ended": {func() error {
			return g.Exec(`SELECT pg_terminate_backend(pg_backend_pid())`).Error
		}, "DATABASE_UNAVAILABLE"},
	} {
		err := postgres.Translate(tc.do())
		if e := errs.As(err); e == nil || e.Reason != tc.reason {
			t.Errorf("%s: %v, want %s", name, err, tc.reason)
		} else if strings.Contains(e.Message, "ann") || strings.Contains(e.Message, "wrong") {
			t.Errorf("%s: the message shows a value: %s", name, e.Message)
		}
	}
}

// A connection that leads to a server without writes, such as a former primary, is not used again.
func TestAConnectionToAStandbyIsNotKept(t *testing.T) {
	db := testkit.Postgres(t, nil)
	set := func(value string) {
		t.Helper()
		err := db.Gorm(t.Context()).Exec(`SELECT set_config('default_transaction_read_only', 'off', false)`).Exec(
			`ALTER DATABASE ` + databaseOf(t, db.URL) + ` SET default_transaction_read_only = ` + value).Error
		if err != nil {
			t.Fatal(err)
		}
	}
	set("on")
	pool, err := postgres.Open(t.Context(), postgres.Options{URL: db.URL, MaxOpenConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = pool.Close() }()
	write := func() error { return pool.Gorm(t.Context()).Exec(`CREATE TABLE written (id int)`).Error }
	if e := errs.As(postgres.Translate(write())); e == nil || e.Reason != "DATABASE_READ_ONLY" {
		t.Fatalf("a write to a standby: %v", e)
	}
	set("off")
	if err := write(); err != nil {
		t.Errorf("after the server takes writes again: %v", err)
	}
}

func databaseOf(t *testing.T, url string) string {
	t.Helper()
	c, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	return pgx.Identifier{c.Database}.Sanitize()
}

func connect(t *testing.T, url string, change func(*pgx.ConnConfig)) error {
	t.Helper()
	c, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	change(c)
	conn, err := pgx.ConnectConfig(t.Context(), c)
	if err == nil {
		_ = conn.Close(t.Context())
	}
	return err
}

// deadlock has two statements wait for each other, and returns the error of the one that the server ends. It uses no
// InTx, which would run it again.
func deadlock(t *testing.T, db *postgres.DB) error {
	t.Helper()
	var both sync.WaitGroup
	var locked sync.WaitGroup
	locked.Add(2)
	ended := make([]error, 2)
	for i := range ended {
		both.Go(func() {
			tx := db.Gorm(context.WithoutCancel(t.Context())).Begin()
			defer tx.Rollback()
			first, second := i+1, 2-i
			if err := tx.Exec(`UPDATE accounts SET amount = 1 WHERE id = ?`, first).Error; err != nil {
				t.Error(err)
			}
			locked.Done()
			locked.Wait()
			ended[i] = tx.Exec(`UPDATE accounts SET amount = 2 WHERE id = ?`, second).Error
		})
	}
	both.Wait()
	return errors.Join(ended...)
}
