package erasure

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/postgres"
)

// ownerLock is the advisory lock of an owner: shared by transactions that create something for them, exclusive for the
// one that notes their deletion.
const ownerLock = "hashtextextended('purser: owner ' || lower(owner_id::text), 0)"

// Guard refuses a transaction that creates something for an owner who was deleted: errs.Unauthenticated
// (TOKEN_REVOKED). Call it before anything is created. Until the transaction ends, the deletion of the owner waits to
// be noted, and what was created is erased then.
func Guard(tx *gorm.DB, owner uuid.UUID) error {
	err := tx.Exec("SELECT pg_advisory_xact_lock_shared("+ownerLock+") FROM (SELECT ?::uuid AS owner_id) AS o",
		owner).Error
	if err != nil {
		return fmt.Errorf("lock owner: %w", err)
	}
	// A statement of its own, which reads what was committed before the lock was granted.
	var gone []uuid.UUID
	if err := tx.Raw("SELECT owner_id FROM erased_owners WHERE owner_id = ?", owner).Scan(&gone).Error; err != nil {
		return fmt.Errorf("read erased owners: %w", err)
	}
	if len(gone) > 0 {
		return authn.TokenRevoked()
	}
	return nil
}

func (f *Follower) cursor(ctx context.Context) (cursor int64, err error) {
	if err := f.DB.Gorm(ctx).Raw("SELECT cursor FROM erasure_cursor").Scan(&cursor).Error; err != nil {
		return 0, fmt.Errorf("read the cursor of deletions: %w", err)
	}
	return cursor, nil
}

// move moves the cursor and notes the deleted between, unless another replica has moved it.
func (f *Follower) move(ctx context.Context, from, to int64, between []deleted) error {
	return postgres.InTx(ctx, f.DB, func(tx *gorm.DB) error {
		done := tx.Exec("UPDATE erasure_cursor SET cursor = ? WHERE cursor = ?", to, from)
		if done.Error != nil {
			return fmt.Errorf("move the cursor of deletions: %w", done.Error)
		}
		if done.RowsAffected == 0 {
			return nil
		}
		return note(tx, between, "")
	})
}

// noteFound notes users who were found to be deleted, and whom there is something of: also those who were erased
// before.
func (f *Follower) noteFound(ctx context.Context, found []deleted) error {
	return postgres.InTx(ctx, f.DB, func(tx *gorm.DB) error { return note(tx, found, ", erased_at = NULL") })
}

// note stores that users were deleted, once no transaction is under way that creates something for them.
func note(tx *gorm.DB, list []deleted, alsoSet string) error {
	if len(list) == 0 {
		return nil
	}
	owners, cursors := make([]uuid.UUID, len(list)), make([]int64, len(list))
	for i, d := range list {
		owners[i], cursors[i] = d.owner, d.cursor
	}
	return postgres.Raw(tx, func(conn *pgx.Conn) error {
		ctx := tx.Statement.Context
		// In one order, so that two replicas don't deadlock.
		_, err := conn.Exec(ctx, `SELECT pg_advisory_xact_lock(k) FROM (
			SELECT `+ownerLock+` AS k FROM unnest($1::uuid[]) AS o (owner_id) ORDER BY k) AS locks`, owners)
		if err != nil {
			return fmt.Errorf("lock owners: %w", err)
		}
		_, err = conn.Exec(ctx, `INSERT INTO erased_owners (owner_id, cursor)
			SELECT * FROM unnest($1::uuid[], $2::bigint[]) ORDER BY 1
			ON CONFLICT (owner_id) DO UPDATE SET cursor = excluded.cursor`+alsoSet, owners, cursors)
		if err != nil {
			return fmt.Errorf("note deleted users: %w", err)
		}
		return nil
	})
}

type pendingRow struct {
	OwnerID uuid.UUID
	Cursor  int64
}

// pending returns the next users who are noted and not erased, in the order of their cursors.
func (f *Follower) pending(ctx context.Context, after int64) (rows []pendingRow, err error) {
	err = f.DB.Gorm(ctx).Raw(`SELECT owner_id, cursor FROM erased_owners WHERE erased_at IS NULL AND cursor > ?
		ORDER BY cursor LIMIT ?`, after, listSize).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read deleted users: %w", err)
	}
	return rows, nil
}

// erasedUntil returns the cursor up to which everything is erased.
func (f *Follower) erasedUntil(ctx context.Context) (cursor int64, err error) {
	err = f.DB.Gorm(ctx).Raw(`SELECT least(cursor, coalesce(
		(SELECT min(cursor) - 1 FROM erased_owners WHERE erased_at IS NULL), cursor)) FROM erasure_cursor`).
		Scan(&cursor).Error
	if err != nil {
		return 0, fmt.Errorf("read what is erased: %w", err)
	}
	return cursor, nil
}
