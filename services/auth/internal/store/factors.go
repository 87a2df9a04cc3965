package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/totp"
)

type factorRow struct {
	UserID       uuid.UUID `gorm:"primaryKey"`
	Sealed       []byte
	WrappedKey   []byte
	CreatedAt    time.Time
	ConfirmedAt  *time.Time
	LastStep     int64
	Failures     int
	BlockedUntil *time.Time
	Recovery     [][]byte `gorm:"serializer:json"`
}

func (factorRow) TableName() string { return "second_factors" }

// Factors implements totp.Store.
type Factors struct{ db *postgres.DB }

// NewFactors returns the second factors in db.
func NewFactors(db *postgres.DB) *Factors { return &Factors{db: db} }

// Label implements totp.Store.
func (s *Factors) Label(ctx context.Context, user uuid.UUID) (string, error) {
	var row userRow
	if err := s.db.Gorm(ctx).Select("email").Where("id = ?", user).Take(&row).Error; err != nil {
		return "", missing(err, "user")
	}
	if row.Email == nil {
		return user.String(), nil
	}
	return *row.Email, nil
}

// Confirmed implements totp.Store.
func (s *Factors) Confirmed(ctx context.Context, user uuid.UUID) (bool, error) {
	var n int64
	err := s.db.Gorm(ctx).Model(&factorRow{}).Where("user_id = ? AND confirmed_at IS NOT NULL", user).Count(&n).Error
	if err != nil {
		return false, fmt.Errorf("look for a second factor: %w", err)
	}
	return n == 1, nil
}

// Change implements totp.Store. The user's row is the lock, for there may be no
// other yet.
func (s *Factors) Change(ctx context.Context, user uuid.UUID,
	change func(totp.Factor, time.Time) (totp.Factor, audit.Event, error)) error {
	return postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		var locked []uuid.UUID
		if err := tx.Raw("SELECT id FROM users WHERE id = ? FOR NO KEY UPDATE", user).Scan(&locked).Error; err != nil {
			return fmt.Errorf("lock user: %w", err)
		}
		if len(locked) == 0 {
			return errs.NotFound("user")
		}
		if err := present(tx, user); err != nil {
			return err
		}
		now, err := clock(tx)
		if err != nil {
			return err
		}
		var row factorRow
		// Locked against Rewrap, whose work a change would undo.
		err = tx.Clauses(clause.Locking{Strength: clause.LockingStrengthUpdate}).Where("user_id = ?",
			user).Take(&row).Error
		if err != nil && !errors.Is(err, gorm.ErrRecordNotFound) {
			return fmt.Errorf("read second factor: %w", err)
		}
		f, e, err := change(row.factor(), now)
		if err != nil {
			return err
		}
		if err := saveFactor(tx, user, f); err != nil || e.Type == "" {
			return err
		}
		return record(tx, e)
	})
}

func saveFactor(tx *gorm.DB, user uuid.UUID, f totp.Factor) error {
	if f.User == uuid.Nil {
		if err := tx.Where("user_id = ?", user).Delete(&factorRow{}).Error; err != nil {
			return fmt.Errorf("delete second factor: %w", err)
		}
		return nil
	}
	row := factorRow{
		UserID: f.User, Sealed: f.Sealed, WrappedKey: f.Wrapped, CreatedAt: f.CreatedAt,
		ConfirmedAt: unlessZero(f.ConfirmedAt),
		LastStep:    f.LastStep, Failures: f.Failures, BlockedUntil: unlessZero(f.BlockedUntil), Recovery: [][]byte{},
	}
	for _, h := range f.Recovery {
		row.Recovery = append(row.Recovery, h[:])
	}
	if err := tx.Save(&row).Error; err != nil {
		return fmt.Errorf("save second factor: %w", err)
	}
	return nil
}

func (r factorRow) factor() totp.Factor {
	f := totp.Factor{
		User: r.UserID, Sealed: r.Sealed, Wrapped: r.WrappedKey, CreatedAt: r.CreatedAt,
		ConfirmedAt: orZero(r.ConfirmedAt),
		LastStep:    r.LastStep, Failures: r.Failures, BlockedUntil: orZero(r.BlockedUntil),
	}
	for _, h := range r.Recovery {
		f.Recovery = append(f.Recovery, totp.Hash(h))
	}
	return f
}

// unlessZero is nil for the zero time, orZero the way back.
func unlessZero(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}
