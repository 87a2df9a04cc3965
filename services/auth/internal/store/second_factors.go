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
	"github.com/purserhq/purser/services/auth/internal/totp"
)

type secondFactorRow struct {
	UserID         uuid.UUID `gorm:"primaryKey"`
	SealedSecret   []byte
	WrappedKey     []byte
	CreatedAt      time.Time
	ConfirmedAt    *time.Time
	LastStep       int64
	Failures       int
	BlockedUntil   *time.Time
	RecoveryHashes [][]byte `gorm:"serializer:json"`
}

func (secondFactorRow) TableName() string { return "second_factors" }

// SecondFactors implements totp.Store.
type SecondFactors struct{ db *postgres.DB }

// NewSecondFactors returns the second factors in db.
func NewSecondFactors(db *postgres.DB) *SecondFactors { return &SecondFactors{db: db} }

// Label implements totp.Store.
func (s *SecondFactors) Label(ctx context.Context, user uuid.UUID) (string, error) {
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
func (s *SecondFactors) Confirmed(ctx context.Context, user uuid.UUID) (bool, error) {
	var n int64
	err := s.db.Gorm(ctx).Model(&secondFactorRow{}).Where("user_id = ? AND confirmed_at IS NOT NULL",
		user).Count(&n).Error
	if err != nil {
		return false, fmt.Errorf("look for a second factor: %w", err)
	}
	return n == 1, nil
}

// RecoveryCodes implements totp.Store.
func (s *SecondFactors) RecoveryCodes(ctx context.Context, user uuid.UUID) ([]totp.Hash, error) {
	var row secondFactorRow
	err := s.db.Gorm(ctx).Where("user_id = ? AND confirmed_at IS NOT NULL", user).Take(&row).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read recovery codes: %w", err)
	}
	return row.factor().Recovery, nil
}

// Change implements totp.Store. It locks the user's row, because there may be no second factor yet.
func (s *SecondFactors) Change(ctx context.Context, user uuid.UUID, change totp.Change) error {
	return inTx(ctx, s.db, func(tx *gorm.DB) error {
		if _, err := lockCaller(tx, targets{user: user}); err != nil {
			return err
		}
		found, err := exists(tx, "SELECT id FROM users WHERE id = ?", user)
		if err != nil {
			return fmt.Errorf("read user: %w", err)
		}
		if !found {
			return errs.NotFound("user")
		}
		now, err := clock(tx)
		if err != nil {
			return err
		}
		var row secondFactorRow
		// Locked as well, or this change would undo a concurrent Rewrap.
		err = tx.Clauses(clause.Locking{Strength: clause.LockingStrengthUpdate}).Where("user_id = ?",
			user).Take(&row).Error
		if err != nil && !errors.Is(err, gorm.ErrRecordNotFound) {
			return fmt.Errorf("read second factor: %w", err)
		}
		f, e, err := change(row.factor(), now)
		if err != nil {
			return err
		}
		if err := saveSecondFactor(tx, user, f); err != nil || e.Type == "" {
			return err
		}
		return record(tx, e)
	})
}

func saveSecondFactor(tx *gorm.DB, user uuid.UUID, f totp.Factor) error {
	if f.User == uuid.Nil {
		if err := tx.Where("user_id = ?", user).Delete(&secondFactorRow{}).Error; err != nil {
			return fmt.Errorf("delete second factor: %w", err)
		}
		return nil
	}
	row := secondFactorRow{
		UserID: f.User, SealedSecret: f.Sealed, WrappedKey: f.Wrapped, CreatedAt: f.CreatedAt,
		ConfirmedAt: nullTime(f.ConfirmedAt),
		LastStep:    f.LastStep, Failures: f.Failures, BlockedUntil: nullTime(f.BlockedUntil),
		RecoveryHashes: [][]byte{},
	}
	for _, h := range f.Recovery {
		row.RecoveryHashes = append(row.RecoveryHashes, h[:])
	}
	if err := tx.Save(&row).Error; err != nil {
		return fmt.Errorf("save second factor: %w", err)
	}
	return nil
}

func (r secondFactorRow) factor() totp.Factor {
	f := totp.Factor{
		User: r.UserID, Sealed: r.SealedSecret, Wrapped: r.WrappedKey, CreatedAt: r.CreatedAt,
		ConfirmedAt: orZero(r.ConfirmedAt),
		LastStep:    r.LastStep, Failures: r.Failures, BlockedUntil: orZero(r.BlockedUntil),
	}
	for _, h := range r.RecoveryHashes {
		f.Recovery = append(f.Recovery, totp.Hash(h))
	}
	return f
}
