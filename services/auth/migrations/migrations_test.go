package migrations_test

import (
	"strings"
	"testing"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/jobs"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/auth/migrations"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestTheOutboxIsTheOneThatTheCacheWritesTo(t *testing.T) {
	contains(t, "cache.Schema", cache.Schema)
}

func TestTheLedgerIsTheOneThatTheJobsWriteTo(t *testing.T) {
	contains(t, "jobs.Schema", jobs.Schema)
}

func contains(t *testing.T, name, schema string) {
	t.Helper()
	text, err := migrations.FS.ReadFile("00001_auth.sql")
	if err != nil || !strings.Contains(string(text), strings.TrimSpace(schema)) {
		t.Errorf("the migration lacks %s, %v; add one that brings the tables up to it", name, err)
	}
}

func TestDownRemovesEverythingAndUpBringsItBack(t *testing.T) {
	db := testkit.Postgres(t, migrations.FS)
	objects := func() (n int) {
		t.Helper()
		err := db.SQL().QueryRowContext(t.Context(), `
			SELECT (SELECT count(*) FROM pg_class c WHERE relnamespace = 'public'::regnamespace
				AND relname NOT LIKE 'goose_db_version%')
				+ (SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace)`).Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := objects()
	if err := postgres.Down(t.Context(), db.DB, migrations.FS); err != nil {
		t.Fatal(err)
	}
	if n := objects(); n != 0 {
		t.Errorf("%d tables, indexes, sequences and functions are left", n)
	}
	if err := postgres.Migrate(t.Context(), db.DB, migrations.FS); err != nil {
		t.Fatal(err)
	}
	if n := objects(); n != before {
		t.Errorf("%d tables, indexes, sequences and functions, not %d", n, before)
	}
}
