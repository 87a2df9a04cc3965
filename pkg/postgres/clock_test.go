package postgres_test

import (
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/testkit"
)

func TestTheDifferenceOfTheClocksIsSeen(t *testing.T) {
	db := testkit.Postgres(t, nil)
	if got, err := db.ClockSkew(t.Context()); err != nil || got != 0 {
		t.Errorf("on one machine: %s, %v", got, err)
	}
	// Another clock of the database: what is before pg_catalog in the search path wins.
	if err := db.Gorm(t.Context()).Exec(`CREATE SCHEMA skewed;
		CREATE FUNCTION skewed.clock_timestamp() RETURNS timestamptz LANGUAGE sql
			AS $$ SELECT pg_catalog.clock_timestamp() + current_setting('skew.by')::interval $$`).Error; err != nil {
		t.Fatal(err)
	}
	db.SQL().SetMaxOpenConns(1)
	for by, want := range map[string]time.Duration{"10 minutes": -10 * time.Minute, "-10 minutes": 10 * time.Minute} {
		if err := db.Gorm(t.Context()).Exec(`SELECT set_config('skew.by', ?, false),
			set_config('search_path', 'skewed, pg_catalog', false)`, by).Error; err != nil {
			t.Fatal(err)
		}
		got, err := db.ClockSkew(t.Context())
		if err != nil || (got-want).Abs() > time.Minute {
			t.Errorf("%s: %s, %v, want about %s", by, got, err, want)
		}
	}
}
