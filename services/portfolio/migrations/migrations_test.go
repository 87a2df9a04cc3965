package migrations_test

import (
	"strings"
	"testing"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/services/portfolio/migrations"
)

func TestTheOutboxIsTheOneThatTheCacheWritesTo(t *testing.T) {
	text, err := migrations.FS.ReadFile("00002_cache_invalidations.sql")
	if err != nil || !strings.Contains(string(text), strings.TrimSpace(cache.Schema)) {
		t.Errorf("the migration lacks cache.Schema, %v; add one that brings the table up to it", err)
	}
}
