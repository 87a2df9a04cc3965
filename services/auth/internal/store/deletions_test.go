package store

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/auth/migrations"
)

// followAcross has one deletion begin first and commit last, while a reader follows the list from its cursor on. It
// returns how many of the two the reader has seen in the end.
func followAcross(t *testing.T, recordDeletion func(tx *gorm.DB, user uuid.UUID) error) int {
	t.Helper()
	db := testkit.Postgres(t, migrations.FS)
	for _, prepare := range []string{"CREATE SEQUENCE deletion_sequence", "UPDATE deletion_counter SET last = 2"} {
		if err := db.Gorm(t.Context()).Exec(prepare).Error; err != nil {
			t.Fatal(err)
		}
	}
	deletions := NewDeletions(NewAccounts(db.DB, nil, NewMails(db.DB)))
	slow, fast := uuid.New(), uuid.New()
	var seen []uuid.UUID
	cursor := int64(0)
	read := func() {
		list, err := deletions.After(t.Context(), cursor, 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range list {
			seen, cursor = append(seen, d.User), d.Cursor
		}
	}
	second := make(chan error, 1)
	err := postgres.InTx(t.Context(), db.DB, func(tx *gorm.DB) error {
		if err := recordDeletion(tx, slow); err != nil {
			return err
		}
		go func() {
			second <- postgres.InTx(t.Context(), db.DB, func(tx *gorm.DB) error { return recordDeletion(tx, fast) })
		}()
		testkit.Eventually(t, time.Minute, func() bool { // the other waits, or has committed
			var waiting int
			err := db.SQL().QueryRowContext(t.Context(),
				"SELECT count(*) FROM pg_locks WHERE NOT granted").Scan(&waiting)
			return err != nil || waiting > 0 || len(second) == 1
		})
		read()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-second; err != nil {
		t.Fatal(err)
	}
	read()
	slices.SortFunc(seen, func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
	return len(slices.Compact(seen))
}

func TestAReaderMissesNoDeletionThatCommitsAfterALaterOne(t *testing.T) {
	if seen := followAcross(t, recordDeletion); seen != 2 {
		t.Errorf("the reader saw %d of 2 deletions", seen)
	}
}

// The control: numbers of a sequence become visible in another order.
func TestAReaderOfASequenceMissesADeletion(t *testing.T) {
	seen := followAcross(t, func(tx *gorm.DB, user uuid.UUID) error {
		return tx.Exec("INSERT INTO deletions (number, user_id) VALUES (nextval('deletion_sequence'), ?)", user).Error
	})
	if seen == 2 {
		t.Error("the reader of a sequence missed nothing: the test proves nothing")
	}
}
