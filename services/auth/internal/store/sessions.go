package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/session"
)

// Sessions implements session.Store.
type Sessions struct{ db *postgres.DB }

// NewSessions returns the sessions in db.
func NewSessions(db *postgres.DB) *Sessions { return &Sessions{db: db} }

// Credentials implements session.Store.
func (s *Sessions) Credentials(ctx context.Context, email string) (uuid.UUID, string, error) {
	var row userRow
	err := s.db.Gorm(ctx).Select("id", "password_hash").Where("email = ?", withoutNUL(email)).Take(&row).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return uuid.Nil, "", nil
	}
	if err != nil {
		return uuid.Nil, "", missing(err, "user")
	}
	return row.ID, orEmpty(row.PasswordHash), nil
}

// withoutNUL returns an address to look for: Postgres has no text with a NUL, and nobody has the empty address.
func withoutNUL(email string) string {
	if strings.ContainsRune(email, 0) {
		return ""
	}
	return email
}

// PasswordHash implements session.Store.
func (s *Sessions) PasswordHash(ctx context.Context, user uuid.UUID) (string, error) {
	var row userRow
	if err := s.db.Gorm(ctx).Select("password_hash").Where("id = ?", user).Take(&row).Error; err != nil {
		return "", missing(err, "user")
	}
	return orEmpty(row.PasswordHash), nil
}

// AccessState implements session.Store.
func (s *Sessions) AccessState(ctx context.Context, user uuid.UUID) (account.AccessState, error) {
	return accessState(s.db.Gorm(ctx), user)
}

// Change implements session.Store.
func (s *Sessions) Change(ctx context.Context, token session.Hash, change session.Change) error {
	return s.change(ctx, change, "id = (SELECT session_id FROM refresh_tokens WHERE token_hash = ?)", token[:])
}

// ChangeOwn implements session.Store.
func (s *Sessions) ChangeOwn(ctx context.Context, user, id uuid.UUID, change session.Change) error {
	return s.change(ctx, change, "id = ? AND user_id = ?", id, user)
}

// change locks the family that meets a condition and stores what change makes of it.
func (s *Sessions) change(ctx context.Context, change session.Change, condition string, args ...any) error {
	return postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		row, is, now, err := lockFamily(tx, condition, args...)
		if err != nil {
			return err
		}
		was, err := family(tx, row)
		if err != nil {
			return err
		}
		f, e, err := change(was, is, now)
		if err != nil {
			return err
		}
		if err := recordChange(tx, was, f, e); err != nil {
			return err
		}
		row = toRow(f)
		if err := tx.Select("*").Updates(&row).Error; err != nil {
			return fmt.Errorf("save session: %w", err)
		}
		if err := storeUsed(tx, was, f); err != nil {
			return err
		}
		if f.Current != was.Current {
			return storeCurrent(tx, f)
		}
		return nil
	})
}

// Start implements session.Store.
func (s *Sessions) Start(ctx context.Context, user uuid.UUID, v session.SignInContext,
	begin func(session.Owner) (session.NewSession, error)) error {
	return inTx(ctx, s.db, func(tx *gorm.DB) error {
		owner, err := lockOwner(tx, user, v)
		if err != nil {
			return err
		}
		start, err := begin(owner)
		if err != nil {
			return err
		}
		if start.PasswordHash != "" {
			err := tx.Model(&userRow{}).Where("id = ?", user).Update("password_hash", start.PasswordHash).Error
			if err != nil {
				return fmt.Errorf("replace password hash: %w", err)
			}
		}
		if err := storeDevice(tx, user, start.Family.DeviceID); err != nil {
			return err
		}
		row := toRow(start.Family)
		if err := tx.Create(&row).Error; err != nil {
			return fmt.Errorf("create session: %w", err)
		}
		if err := storeCurrent(tx, start.Family); err != nil {
			return err
		}
		return recordAll(tx, start.Events)
	})
}

// lockOwner locks a user and reads what a sign-in depends on; errs.NotFound.
func lockOwner(tx *gorm.DB, user uuid.UUID, v session.SignInContext) (o session.Owner, err error) {
	state, _, err := lockAccount(tx, "id = ?", user)
	if err != nil {
		return o, err
	}
	o.PasswordHash, o.CreatedAt = state.PasswordHash, state.CreatedAt
	if err := readDevices(tx, &o, user, v); err != nil {
		return o, err
	}
	if o.Access, err = accessState(tx, user); err != nil || v.Identity == uuid.Nil {
		return o, err
	}
	var n int64
	err = tx.Model(&identityRow{}).Where("id = ? AND user_id = ?", v.Identity, user).Count(&n).Error
	if err != nil {
		return o, fmt.Errorf("read identity: %w", err)
	}
	o.Linked = n > 0
	o.LastEnd, err = lastEnd(tx, user)
	return o, err
}

// lockFamily locks the family that meets a condition, and reads it, the access state of its user and then the clock.
func lockFamily(tx *gorm.DB, condition string, args ...any) (sessionRow, account.AccessState, time.Time, error) {
	var found []struct {
		Session    sessionRow `gorm:"embedded"`
		Now        time.Time
		Attributes map[string]string `gorm:"serializer:json"`
		Roles      []string          `gorm:"serializer:json"`
		Disabled   bool
	}
	err := tx.Raw(`
		SELECT s.*, clock_timestamp() AS now, u.attributes, u.disabled_at IS NOT NULL AS disabled,
			coalesce((SELECT jsonb_agg(role ORDER BY role) FROM user_roles WHERE user_id = u.id), '[]') AS roles
		FROM (SELECT * FROM sessions WHERE `+condition+` FOR UPDATE) s
		JOIN users u ON u.id = s.user_id`, args...).Scan(&found).Error
	if err != nil {
		return sessionRow{}, account.AccessState{}, time.Time{}, fmt.Errorf("lock session: %w", err)
	}
	if len(found) == 0 {
		return sessionRow{}, account.AccessState{}, time.Time{}, errs.NotFound("session")
	}
	f := found[0]
	return f.Session, account.AccessState{Roles: f.Roles, Attributes: f.Attributes, Disabled: f.Disabled}, f.Now.UTC(),
		nil
}

// recordChange announces a family that was revoked, and records the event.
func recordChange(tx *gorm.DB, was, is session.Family, e audit.Event) error {
	if was.RevokedAt == nil && is.RevokedAt != nil {
		if err := announce(tx, revokedSession, is.ID); err != nil {
			return err
		}
	}
	if e.Type == "" {
		return nil
	}
	return record(tx, e)
}

// family reads a session with the used tokens that can be recovered.
func family(tx *gorm.DB, row sessionRow) (session.Family, error) {
	f := fromRow(row)
	var used []refreshTokenRow
	err := tx.Where("session_id = ? AND sealed_successor IS NOT NULL", row.ID).Order("used_at").Find(&used).Error
	if err != nil {
		return f, fmt.Errorf("read used tokens: %w", err)
	}
	for _, u := range used {
		f.Used = append(f.Used, session.Used{Hash: session.Hash(u.TokenHash), At: *u.UsedAt,
			Successor: u.SealedSuccessor})
	}
	return f, nil
}

// storeUsed stores the successors of the used tokens that can be recovered, and erases those of the others.
func storeUsed(tx *gorm.DB, was, is session.Family) error {
	has := func(f session.Family, u session.Used) bool {
		return slices.ContainsFunc(f.Used, func(other session.Used) bool { return other.Hash == u.Hash })
	}
	for _, u := range is.Used {
		if has(was, u) {
			continue
		}
		err := tx.Model(&refreshTokenRow{TokenHash: u.Hash[:]}).Select("UsedAt", "SealedSuccessor").
			Updates(refreshTokenRow{UsedAt: &u.At, SealedSuccessor: u.Successor}).Error
		if err != nil {
			return fmt.Errorf("store used token: %w", err)
		}
	}
	for _, u := range was.Used {
		if has(is, u) {
			continue
		}
		if err := tx.Model(&refreshTokenRow{TokenHash: u.Hash[:]}).Update("sealed_successor", nil).Error; err != nil {
			return fmt.Errorf("erase successor: %w", err)
		}
	}
	return nil
}

// storeCurrent stores the current token's hash, by which the family is found.
func storeCurrent(tx *gorm.DB, f session.Family) error {
	row := refreshTokenRow{TokenHash: f.Current[:], SessionID: f.ID}
	if err := tx.Create(&row).Error; err != nil {
		return fmt.Errorf("store refresh token: %w", err)
	}
	return nil
}

// Revoke implements session.Store.
func (s *Sessions) Revoke(ctx context.Context, user, id uuid.UUID, reason string, e audit.Event) error {
	return postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		// Whose session has ended may end it again, and no other one.
		if authn.CallerFrom(ctx).SessionID != id {
			if _, err := lockCaller(tx, targets{user: user}); err != nil {
				return err
			}
		}
		var row sessionRow
		if err := tx.Select("id").Where("id = ? AND user_id = ?", id, user).Take(&row).Error; err != nil {
			return missing(err, "session")
		}
		if e.Type == audit.SessionRevoked { // and not Logout, after which the owner comes back
			if err := forgetDeviceOf(tx, user, id); err != nil {
				return err
			}
		}
		ended, err := revoke(tx, reason, "id = ?", id)
		if err != nil || ended == 0 {
			return err
		}
		return record(tx, e)
	})
}

// RevokeAll implements session.Store.
func (s *Sessions) RevokeAll(ctx context.Context, user, except uuid.UUID, reason string, e audit.Event) error {
	return postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		if _, err := lockCaller(tx, targets{user: user}); err != nil {
			return err
		}
		if _, err := endSessions(tx, user, except, reason); err != nil {
			return err
		}
		return record(tx, e)
	})
}

// endSessions ends every session of a user but one, and the sign-ins that were proven and have no session yet. It
// forgets the devices, and returns how many sessions it ended.
func endSessions(tx *gorm.DB, user, except uuid.UUID, reason string) (ended int, err error) {
	if ended, err = revoke(tx, reason, "user_id = ? AND id <> ?", user, except); err != nil {
		return 0, err
	}
	if err := tx.Exec("UPDATE users SET ends = ends + 1 WHERE id = ?", user).Error; err != nil {
		return 0, fmt.Errorf("end sign-ins: %w", err)
	}
	return ended, forgetDevices(tx, user, except)
}

// lastEnd returns how often the sessions of a locked user were ended.
func lastEnd(tx *gorm.DB, user uuid.UUID) (n int64, err error) {
	if err := tx.Raw("SELECT ends FROM users WHERE id = ?", user).Scan(&n).Error; err != nil {
		return 0, fmt.Errorf("read how often sessions were ended: %w", err)
	}
	return n, nil
}

// revoke ends the families that meet a condition, erases their successors, and returns how many it ended.
func revoke(tx *gorm.DB, reason, condition string, args ...any) (int, error) {
	var ended []uuid.UUID
	err := tx.Raw("UPDATE sessions SET revoked_at = clock_timestamp(), revoke_reason = ? "+
		"WHERE revoked_at IS NULL AND "+condition+" RETURNING id",
		append([]any{reason}, args...)...).Scan(&ended).Error
	if err != nil {
		return 0, fmt.Errorf("revoke sessions: %w", err)
	}
	if len(ended) == 0 {
		return 0, nil
	}
	err = tx.Model(&refreshTokenRow{}).Where("session_id IN ? AND sealed_successor IS NOT NULL",
		ended).Update("sealed_successor", nil).Error
	if err != nil {
		return 0, fmt.Errorf("erase successors: %w", err)
	}
	return len(ended), announce(tx, revokedSession, ended...)
}

// List implements session.Store. Ids are UUIDv7, so their order is that of creation.
func (s *Sessions) List(ctx context.Context, user, before uuid.UUID, limit int, now time.Time) ([]session.Family,
	error) {
	q := s.db.Gorm(ctx).Where("user_id = ? AND revoked_at IS NULL AND least(expires_at, current_expires_at) > ?", user,
		now)
	if before != uuid.Nil {
		q = q.Where("id < ?", before)
	}
	var rows []sessionRow
	if err := q.Order("id DESC").Limit(limit).Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	list := make([]session.Family, len(rows))
	for i, row := range rows {
		list[i] = fromRow(row)
	}
	return list, nil
}

// Find implements session.Store.
func (s *Sessions) Find(ctx context.Context, user, id uuid.UUID) (session.Family, error) {
	var row sessionRow
	if err := s.db.Gorm(ctx).Where("id = ? AND user_id = ?", id, user).Take(&row).Error; err != nil {
		return session.Family{}, missing(err, "session")
	}
	return fromRow(row), nil
}

// EraseSuccessors erases the successors of tokens that were used longer than recovery ago.
func (s *Sessions) EraseSuccessors(ctx context.Context, recovery time.Duration) error {
	err := s.db.Gorm(ctx).Exec(`UPDATE refresh_tokens SET sealed_successor = NULL
		WHERE sealed_successor IS NOT NULL AND used_at < clock_timestamp() - ? * interval '1 microsecond'`,
		recovery.Microseconds()).Error
	if err != nil {
		return fmt.Errorf("erase successors: %w", err)
	}
	return nil
}

// Prune deletes the families that ended longer than keep ago, a thousand per statement.
func (s *Sessions) Prune(ctx context.Context, keep time.Duration) error {
	for {
		done := s.db.Gorm(ctx).Exec(`DELETE FROM sessions WHERE id IN (SELECT id FROM sessions
			WHERE least(coalesce(revoked_at, expires_at), expires_at)
				< clock_timestamp() - ? * interval '1 microsecond'
			LIMIT 1000)`, keep.Microseconds())
		if done.Error != nil {
			return fmt.Errorf("prune sessions: %w", done.Error)
		}
		if done.RowsAffected < 1000 {
			return nil
		}
	}
}
