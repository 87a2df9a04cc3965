package postgres_test

import (
	"io/fs"
	"net"
	"strconv"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/testkit"
)

// releases are the migrations of three releases, by the newest schema that each knows.
func releases() map[int64]fs.FS {
	all := map[string]*fstest.MapFile{
		"00001_a.sql": migration(`CREATE TABLE a (n int);`, `DROP TABLE a;`),
		"00002_b.sql": migration(`CREATE TABLE b (n int);`, `DROP TABLE b;`),
		"00003_c.sql": migration(`CREATE TABLE c (n int);`, `DROP TABLE c;`),
		"00004_d.sql": migration(`CREATE TABLE d (n int);`, `DROP TABLE d;`),
	}
	of := func(names ...string) fs.FS {
		m := fstest.MapFS{}
		for _, name := range names {
			m[name] = all[name]
		}
		return m
	}
	return map[int64]fs.FS{1: of("00001_a.sql"), 3: of("00001_a.sql", "00002_b.sql", "00003_c.sql"),
		4: of("00001_a.sql", "00002_b.sql", "00003_c.sql", "00004_d.sql")}
}

func TestASchemaIsForItsOwnProgramsAndThoseOfTheReleaseBefore(t *testing.T) {
	own := testkit.Postgres(t, nil)
	check := func(when string, known int64, reason string, newer bool) {
		t.Helper()
		s, err := postgres.CheckSchema(t.Context(), own.DB, releases()[known])
		if reason != "" {
			wantReason(t, err, reason)
		} else if err != nil || s.Newer() != newer || s.Known != known {
			t.Errorf("%s, a program of schema %d: %+v, %v", when, known, s, err)
		}
	}
	migrate := func(known int64) {
		t.Helper()
		if err := postgres.Migrate(t.Context(), own.DB, releases()[known]); err != nil {
			t.Fatal(err)
		}
	}
	check("before the first migration", 1, "SCHEMA_MISSING", false)
	var tables int
	if err := own.Gorm(t.Context()).Raw(`SELECT count(*) FROM pg_tables WHERE schemaname = 'public'`).
		Scan(&tables).Error; err != nil || tables != 0 {
		t.Errorf("checking made %d tables, %v", tables, err)
	}
	migrate(1)
	check("at 1", 1, "", false)
	check("at 1", 3, "SCHEMA_OLDER", false)
	migrate(3)
	migrate(3) // which a job that is repeated does
	migrate(1) // which the release before does when it starts again
	check("at 3", 1, "", true)
	check("at 3", 3, "", false)
	migrate(4)
	check("at 4", 1, "SCHEMA_NEWER", false)
	check("at 4", 3, "", true)
	if err := postgres.Down(t.Context(), own.DB, releases()[4]); err != nil {
		t.Fatal(err)
	}
	check("at 3 again", 3, "", false)
	check("at 3 again", 4, "SCHEMA_OLDER", false)
	if err := own.Gorm(t.Context()).Exec(`COMMENT ON TABLE goose_db_version IS 'by somebody else'`).
		Error; err != nil {
		t.Fatal(err)
	}
	check("without a note", 3, "", false)
	check("without a note", 1, "SCHEMA_NEWER", false)
}

// A migration of two steps that stops after the first still lets the programs of before start.
func TestAMigrationThatWasCutOffIsForTheSamePrograms(t *testing.T) {
	own := testkit.Postgres(t, nil)
	if err := postgres.Migrate(t.Context(), own.DB, releases()[1]); err != nil {
		t.Fatal(err)
	}
	broken := fstest.MapFS{"00003_c.sql": migration(`SELECT 1/0;`, `SELECT 1;`)}
	for _, name := range []string{"00001_a.sql", "00002_b.sql"} {
		data, err := fs.ReadFile(releases()[3], name)
		if err != nil {
			t.Fatal(err)
		}
		broken[name] = &fstest.MapFile{Data: data}
	}
	if err := postgres.Migrate(t.Context(), own.DB, broken); err == nil {
		t.Fatal("the broken migration was applied")
	}
	for range 2 {
		if s, err := postgres.CheckSchema(t.Context(), own.DB, releases()[1]); err != nil || !s.Newer() {
			t.Errorf("%+v, %v", s, err)
		}
		if err := postgres.Migrate(t.Context(), own.DB, releases()[3]); err != nil {
			t.Fatal(err)
		}
	}
}

// The role of a service needs no rights of the one that migrates.
func TestASchemaIsCheckedWithTheRightToReadAlone(t *testing.T) {
	own := testkit.Postgres(t, releases()[1])
	err := own.Gorm(t.Context()).Exec(`DO $$ BEGIN
		IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'schema_reader') THEN
			CREATE ROLE schema_reader LOGIN PASSWORD 'reads';
		END IF;
		GRANT SELECT ON goose_db_version TO schema_reader; END $$`).Error
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		err := own.Gorm(t.Context()).Exec(`DROP OWNED BY schema_reader; DROP ROLE schema_reader`).Error
		if err != nil {
			t.Error(err)
		}
	}()
	config, err := pgx.ParseConfig(own.URL)
	if err != nil {
		t.Fatal(err)
	}
	host := net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port)))
	reader := open(t, postgres.Options{URL: "postgres://schema_reader:reads@" + host + "/" + config.Database +
		"?sslmode=disable"})
	if s, err := postgres.CheckSchema(t.Context(), reader, releases()[1]); err != nil || s.Version != 1 {
		t.Errorf("%+v, %v", s, err)
	}
}
