package migrations_test

import (
	"strings"
	"testing"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/jobs"
	"github.com/purserhq/purser/services/internal/erasure"
	"github.com/purserhq/purser/services/portfolio/migrations"
)

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
