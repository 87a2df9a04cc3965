package store

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/deletion"
	"github.com/purserhq/purser/services/auth/internal/role"
)

// recordDeletion gives the deletion of a user the next number. The row of the counter is locked until the end of the
// transaction, so that numbers become visible in their order; it is the last lock that a deletion takes.
func recordDeletion(tx *gorm.DB, user uuid.UUID) error {
	err := tx.Exec(`WITH next AS (UPDATE deletion_counter SET last = last + 1 RETURNING last)
		INSERT INTO deletions (number, user_id) SELECT last, ? FROM next`, user).Error
	if err != nil {
		return fmt.Errorf("record deletion: %w", err)
	}
	return nil
}

type deletedRow struct {
	Number    int64
	UserID    uuid.UUID
	DeletedAt time.Time
}

func (r deletedRow) deleted() deletion.Deleted {
	return deletion.Deleted{User: r.UserID, At: r.DeletedAt.UTC(), Cursor: r.Number}
}

// Deletions implements deletion.Store.
type Deletions struct{ accounts *Accounts }

// NewDeletions returns the deletions of accounts.
func NewDeletions(a *Accounts) *Deletions { return &Deletions{accounts: a} }

// Change implements deletion.Store.
func (s *Deletions) Change(ctx context.Context, id uuid.UUID, include account.Include, decide account.Decide) error {
	return s.accounts.Change(ctx, id, include, decide)
}

// Due implements deletion.Store.
func (s *Deletions) Due(ctx context.Context, limit int) (due []uuid.UUID, err error) {
	err = s.accounts.db.Gorm(ctx).Raw("SELECT id FROM users WHERE delete_at <= clock_timestamp() ORDER BY delete_at "+
		"LIMIT ?", limit).Scan(&due).Error
	if err != nil {
		return nil, fmt.Errorf("read due deletions: %w", err)
	}
	return due, nil
}

// After implements deletion.Store. The counter is read after the deletions, so that a deletion in between is no error.
func (s *Deletions) After(ctx context.Context, cursor int64, limit int) ([]deletion.Deleted, error) {
	db := s.accounts.db.Gorm(ctx)
	var rows []deletedRow
	err := db.Raw("SELECT * FROM deletions WHERE number > ? ORDER BY number LIMIT ?", cursor, limit).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("list deletions: %w", err)
	}
	if len(rows) == 0 {
		return nil, checkCursor(db, cursor)
	}
	return deletedUsers(rows), nil
}

func deletedUsers(rows []deletedRow) []deletion.Deleted {
	list := make([]deletion.Deleted, len(rows))
	for i, r := range rows {
		list[i] = r.deleted()
	}
	return list
}

// checkCursor refuses a cursor that no deletion has.
func checkCursor(db *gorm.DB, cursor int64) error {
	var last int64
	if err := db.Raw("SELECT last FROM deletion_counter").Scan(&last).Error; err != nil {
		return fmt.Errorf("read the counter of deletions: %w", err)
	}
	if cursor > last {
		return deletion.CursorAhead()
	}
	return nil
}

// Find implements deletion.Store.
func (s *Deletions) Find(ctx context.Context, users []uuid.UUID) ([]deletion.Deleted, error) {
	if len(users) == 0 {
		return nil, nil
	}
	var rows []deletedRow
	err := s.accounts.db.Gorm(ctx).Raw("SELECT * FROM deletions WHERE user_id IN ? ORDER BY number", users).
		Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("find deleted users: %w", err)
	}
	return deletedUsers(rows), nil
}

// Report implements deletion.Store.
func (s *Deletions) Report(ctx context.Context, cursor int64) error {
	return postgres.InTx(ctx, s.accounts.db, func(tx *gorm.DB) error {
		if _, err := lockCaller(tx, targets{}); err != nil {
			return err
		}
		if err := checkCursor(tx, cursor); err != nil {
			return err
		}
		account := authn.CallerFrom(ctx).UserID
		done := tx.Exec(`INSERT INTO erasure_reports (account_id, number) SELECT @account, @number
			WHERE @number > 0
			  AND NOT EXISTS (SELECT FROM erasure_reports WHERE account_id = @account AND number >= @number)
			ON CONFLICT DO NOTHING`, map[string]any{"account": account, "number": cursor})
		if done.Error != nil {
			return fmt.Errorf("record erasure: %w", done.Error)
		}
		if done.RowsAffected == 0 {
			return nil
		}
		return record(tx, audit.Event{Type: audit.ErasureReported, Actor: account,
			Object: strconv.FormatInt(cursor, 10)})
	})
}

// erasers are the service accounts that have to erase the data of deleted users.
const erasers = `SELECT id, name FROM service_accounts
	WHERE disabled_at IS NULL AND permissions @> '["` + role.EraseUsers + `"]'`

// Get implements deletion.Store.
func (s *Deletions) Get(ctx context.Context, user uuid.UUID) (deletion.Deletion, error) {
	var rows []deletedRow
	db := s.accounts.db.Gorm(ctx)
	if err := db.Raw("SELECT * FROM deletions WHERE user_id = ?", user).Scan(&rows).Error; err != nil {
		return deletion.Deletion{}, fmt.Errorf("read deletion: %w", err)
	}
	if len(rows) == 0 {
		return s.planned(db, user)
	}
	list, err := withErasures(db, rows)
	if err != nil {
		return deletion.Deletion{}, err
	}
	return list[0], nil
}

func (s *Deletions) planned(db *gorm.DB, user uuid.UUID) (deletion.Deletion, error) {
	var at []time.Time
	err := db.Raw("SELECT delete_at FROM users WHERE id = ? AND delete_at IS NOT NULL", user).Scan(&at).Error
	if err != nil {
		return deletion.Deletion{}, fmt.Errorf("read planned deletion: %w", err)
	}
	if len(at) == 0 {
		return deletion.Deletion{}, errs.NotFound("deletion")
	}
	return deletion.Deletion{User: user, PlannedFor: at[0].UTC()}, nil
}

// withErasures completes deletions by what services reported.
func withErasures(db *gorm.DB, rows []deletedRow) ([]deletion.Deletion, error) {
	numbers := make([]int64, len(rows))
	byNumber := make(map[int64]*deletion.Deletion, len(rows))
	list := make([]deletion.Deletion, len(rows))
	for i, r := range rows {
		list[i] = deletion.Deletion{User: r.UserID, DeletedAt: r.DeletedAt.UTC(), Cursor: r.Number}
		numbers[i], byNumber[r.Number] = r.Number, &list[i]
	}
	var reports []struct {
		Number   int64
		ID       uuid.UUID
		Name     string
		ErasedAt *time.Time
	}
	if len(rows) == 0 {
		return nil, nil
	}
	err := db.Raw(`SELECT d.number, a.id, a.name, (SELECT r.reported_at FROM erasure_reports r
			WHERE r.account_id = a.id AND r.number >= d.number ORDER BY r.number LIMIT 1) AS erased_at
		FROM deletions d, (`+erasers+`) a WHERE d.number IN ? ORDER BY d.number, a.name`, numbers).Scan(&reports).Error
	if err != nil {
		return nil, fmt.Errorf("read erasures: %w", err)
	}
	for _, r := range reports {
		d := byNumber[r.Number]
		d.Services = append(d.Services, deletion.Erasure{Account: r.ID, Name: r.Name, At: orZero(r.ErasedAt).UTC()})
	}
	return list, nil
}

// List implements deletion.Store.
func (s *Deletions) List(ctx context.Context, p deletion.Page) ([]deletion.Deletion, error) {
	db := s.accounts.db.Gorm(ctx)
	q := db.Table("deletions").Order("number DESC").Limit(p.Limit)
	if p.Before > 0 {
		q = q.Where("number < ?", p.Before)
	}
	if p.Unerased { // a service has erased all up to its last report; where no service has to, nobody has
		q = q.Where(`number > coalesce((SELECT min(coalesce((SELECT max(r.number) FROM erasure_reports r
			WHERE r.account_id = a.id), 0)) FROM (` + erasers + `) a), 0)`)
	}
	var rows []deletedRow
	if err := q.Scan(&rows).Error; err != nil {
		return nil, fmt.Errorf("list deletions: %w", err)
	}
	return withErasures(db, rows)
}

// Unerased returns, by the name of each service account that has to erase data, how long ago the oldest deletion was
// that it has not erased; 0 for none.
func (s *Deletions) Unerased(ctx context.Context) (map[string]time.Duration, error) {
	var rows []struct {
		Name    string
		Seconds float64
	}
	err := s.accounts.db.Gorm(ctx).Raw(`SELECT a.name, coalesce(extract(epoch FROM clock_timestamp() - (
			SELECT d.deleted_at FROM deletions d WHERE d.number > coalesce((SELECT max(r.number) FROM erasure_reports r
				WHERE r.account_id = a.id), 0) ORDER BY d.number LIMIT 1)), 0) AS seconds
		FROM (` + erasers + `) a`).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read unerased deletions: %w", err)
	}
	ages := make(map[string]time.Duration, len(rows))
	for _, r := range rows {
		ages[r.Name] = time.Duration(r.Seconds * float64(time.Second))
	}
	return ages, nil
}
