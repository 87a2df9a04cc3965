package store_test

import (
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/portfolio/internal/store"
	"github.com/purserhq/purser/services/portfolio/migrations"
)

// While the planner knows a table of one row and it has more, a claim may look for its rows anew for each of them.
func TestAClaimTakesNoMoreOwnersWithRulesThanItMay(t *testing.T) {
	db := testkit.Postgres(t, migrations.FS)
	now := time.Now()
	for _, statement := range []string{
		"ALTER TABLE alert_owners SET (autovacuum_enabled = off)",
		"INSERT INTO alert_owners (owner_id, due_at) VALUES (gen_random_uuid(), now() - interval '1 hour')",
		"ANALYZE alert_owners",
		`INSERT INTO alert_owners (owner_id, due_at)
			SELECT gen_random_uuid(), now() - interval '1 hour' FROM generate_series(1, 29)`,
	} {
		if err := db.Gorm(t.Context()).Exec(statement).Error; err != nil {
			t.Fatal(err)
		}
	}
	claimed, err := store.NewAlerts(db.DB, func() {}).Claim(t.Context(), now, now.Add(time.Minute), 4, nil)
	if err != nil || len(claimed) != 4 {
		t.Errorf("%d owners are claimed, %v; want 4", len(claimed), err)
	}
}
