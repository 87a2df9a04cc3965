package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/testkit"
)

func TestReplicasThatStartTogetherMigrateOnce(t *testing.T) {
	own := testkit.Postgres(t, nil)
	slow := fstest.MapFS{
		"00001_a.sql": migration(`CREATE TABLE a (n int); SELECT pg_sleep(0.5);`, `DROP TABLE a;`),
		"00002_b.sql": migration(`CREATE TABLE b (n int); INSERT INTO b VALUES (1);`, `DROP TABLE b;`),
	}
	var wg sync.WaitGroup
	for range 4 {
		db := open(t, postgres.Options{URL: own.URL, LockTimeout: 20 * time.Millisecond,
			StatementTimeout: 250 * time.Millisecond})
		wg.Go(func() {
			if err := postgres.Migrate(t.Context(), db, slow); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	s, err := postgres.Status(t.Context(), own.DB, slow)
	if err != nil || s.Version != 2 || len(s.Pending) != 0 || s.Newer() {
		t.Fatalf("%+v, %v", s, err)
	}
}

func TestASchemaNewerThanTheProgramIsReportedAndNotAnError(t *testing.T) {
	own := testkit.Postgres(t, nil)
	old := fstest.MapFS{"00001_a.sql": migration(`CREATE TABLE a (n int);`, `DROP TABLE a;`)}
	later := fstest.MapFS{"00001_a.sql": old["00001_a.sql"],
		"00002_b.sql": migration(`CREATE TABLE b (n int);`, `DROP TABLE b;`)}
	if s, err := postgres.Status(t.Context(), own.DB, later); err != nil || s.Version != 0 || len(s.Pending) != 2 {
		t.Fatalf("%+v, %v", s, err)
	}
	if err := postgres.Migrate(t.Context(), own.DB, later); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	db := open(t, postgres.Options{URL: own.URL, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err := postgres.Migrate(t.Context(), db, old); err != nil {
		t.Fatal(err)
	}
	s, err := postgres.Status(t.Context(), db, old)
	if err != nil || !s.Newer() || s.Version != 2 || s.Known != 1 {
		t.Fatalf("%+v, %v", s, err)
	}
	if !strings.Contains(log.String(), "newer than this program") {
		t.Fatal(log.String())
	}
	if err := postgres.Down(t.Context(), db, later); err != nil {
		t.Fatal(err)
	}
	if s, err := postgres.Status(t.Context(), db, later); err != nil || s.Version != 1 {
		t.Fatalf("%+v, %v", s, err)
	}
}

// A migration that never ends is told by name, and the next one gives up.
func TestAMigrationDoesNotWaitForEver(t *testing.T) {
	db := testkit.Postgres(t, nil)
	holder := open(t, postgres.Options{URL: db.URL, Name: "purser-test-migrate", MaxOpenConns: 1})
	err := holder.Gorm(t.Context()).Exec(`SELECT pg_advisory_lock(x'7075727365720001'::bigint)`).Error
	if err != nil {
		t.Fatal(err)
	}
	next := open(t, postgres.Options{URL: db.URL, MigrationLockTimeout: 300 * time.Millisecond})
	err = postgres.Migrate(t.Context(), next, accounts())
	if !errors.Is(err, postgres.ErrMigrationLocked) || !strings.Contains(err.Error(), "purser-test-migrate from ") {
		t.Errorf("while another migrates: %v", err)
	}
	if err := holder.Close(); err != nil {
		t.Fatal(err)
	}
	if err := postgres.Migrate(t.Context(), next, accounts()); err != nil {
		t.Errorf("after it has ended: %v", err)
	}
}

func TestMigrationsGoAroundThePooler(t *testing.T) {
	db := testkit.Postgres(t, nil)
	pooled := open(t, postgres.Options{URL: db.URL, PgBouncer: true})
	for name, migrate := range map[string]func(context.Context, *postgres.DB, fs.FS) error{
		"up": postgres.Migrate, "down": postgres.Down,
	} {
		if err := migrate(t.Context(), pooled, accounts()); err == nil || !strings.Contains(err.Error(), "PgBouncer") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
