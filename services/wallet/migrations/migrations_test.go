package migrations_test

import (
	"strings"
	"testing"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/jobs"
	"github.com/purserhq/purser/services/internal/erasure"
	"github.com/purserhq/purser/services/wallet/migrations"
)

func TestTheOutboxIsTheOneThatTheCacheWritesTo(t *testing.T) {
	text, err := migrations.FS.ReadFile("00001_schema.sql")
	if err != nil || !strings.Contains(string(text), strings.TrimSpace(cache.Schema)) {
		t.Errorf("the migration lacks cache.Schema, %v; add one that brings the table up to it", err)
	}
}

func TestTheTablesOfJobsAreThoseThatTheJobsWriteTo(t *testing.T) {
	text, err := migrations.FS.ReadFile("00001_schema.sql")
	if err != nil || !strings.Contains(string(text), strings.TrimSpace(jobs.Schema)) {
		t.Errorf("the migration lacks jobs.Schema, %v; add one that brings the tables up to it", err)
	}
}

func TestTheErasureTablesAreTheOnesThatTheFollowerWritesTo(t *testing.T) {
	text, err := migrations.FS.ReadFile("00001_schema.sql")
	if err != nil || !strings.Contains(string(text), strings.TrimSpace(erasure.Schema)) {
		t.Errorf("the migration lacks erasure.Schema, %v; add one that brings the tables up to it", err)
	}
}
