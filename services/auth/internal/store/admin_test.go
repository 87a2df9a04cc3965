package store

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/auth/internal/role"
	"github.com/purserhq/purser/services/auth/migrations"
)

// Two admins, each of whom is about to lose the role: the second change is made
// while the first is not committed, and is refused for what that leaves.
func TestOfTwoAdminsWhoDemoteEachOtherOneStays(t *testing.T) {
	db := testkit.Postgres(t, migrations.FS)
	ada, bob := uuid.New(), uuid.New()
	for _, id := range []uuid.UUID{ada, bob} {
		err := db.Gorm(t.Context()).Exec("INSERT INTO users (id, created_at) VALUES (?, now())", id).Error
		if err == nil {
			err = db.Gorm(t.Context()).Create(&roleRow{UserID: id, Role: role.Admin}).Error
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	demote := func(tx *gorm.DB, id uuid.UUID) error {
		admins, err := lockAdmins(tx, id)
		if err == nil {
			err = admins.CheckLastAdmin()
		}
		if err != nil {
			return err
		}
		return tx.Where("user_id = ?", id).Delete(&roleRow{}).Error
	}
	second := make(chan error, 1)
	err := postgres.InTx(t.Context(), db.DB, func(tx *gorm.DB) error {
		if err := demote(tx, ada); err != nil {
			return err
		}
		go func() {
			second <- postgres.InTx(t.Context(), db.DB, func(tx *gorm.DB) error { return demote(tx, bob) })
		}()
		testkit.Eventually(t, time.Minute, func() bool {
			var waiting int
			err := db.SQL().QueryRowContext(t.Context(),
				"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").Scan(&waiting)
			return err != nil || waiting == 1 || len(second) == 1
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if e := errs.As(<-second); e == nil || e.Reason != "LAST_ADMIN" {
		t.Errorf("the second was answered %v", e)
	}
}
