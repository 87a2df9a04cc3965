package store

import (
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/auth/migrations"
)

// While the planner knows a table of one row and it has more, a claim may look for its rows anew for each of them.
func TestAClaimTakesNoMoreMailsThanItMay(t *testing.T) {
	db := testkit.Postgres(t, migrations.FS)
	for _, statement := range []string{
		"ALTER TABLE mails SET (autovacuum_enabled = off)",
		"INSERT INTO mails (id, kind, recipient, subject, body) VALUES (gen_random_uuid(), 'VERIFY', 'a', 's', 'b')",
		"ANALYZE mails",
		`INSERT INTO mails (id, kind, recipient, subject, body)
			SELECT gen_random_uuid(), 'VERIFY', 'a', 's', 'b' FROM generate_series(1, 29)`,
	} {
		if err := db.Gorm(t.Context()).Exec(statement).Error; err != nil {
			t.Fatal(err)
		}
	}
	claimed, err := NewMails(db.DB).Claim(t.Context(), 4, time.Minute)
	if err != nil || len(claimed) != 4 {
		t.Errorf("%d mails are claimed, %v; want 4", len(claimed), err)
	}
}
