package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/role"
)

type removalRow struct {
	UserID        uuid.UUID `gorm:"primaryKey"`
	RequestedBy   uuid.UUID
	RequestedAt   time.Time
	DueAt         time.Time
	ConfirmedAt   time.Time
	LastStep      int64
	RecoveryCodes int
}

func (removalRow) TableName() string { return "second_factor_removals" }

// secondFactorAndRemoval reads the confirmed second factor of a locked user, and its pending removal.
func secondFactorAndRemoval(tx *gorm.DB, user uuid.UUID) (f account.SecondFactor, r *account.Removal, err error) {
	var factor secondFactorRow
	err = tx.Where("user_id = ? AND confirmed_at IS NOT NULL", user).Take(&factor).Error
	switch {
	case err == nil:
		f = account.SecondFactor{ConfirmedAt: orZero(factor.ConfirmedAt), LastStep: factor.LastStep,
			RecoveryCodes: len(factor.RecoveryHashes)}
	case !errors.Is(err, gorm.ErrRecordNotFound):
		return f, nil, fmt.Errorf("read second factor: %w", err)
	}
	var row removalRow
	err = tx.Where("user_id = ?", user).Take(&row).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return f, nil, nil
	}
	if err != nil {
		return f, nil, fmt.Errorf("read removal of second factor: %w", err)
	}
	r = &account.Removal{By: row.RequestedBy, At: row.RequestedAt, Due: row.DueAt, Factor: account.SecondFactor{
		ConfirmedAt: row.ConfirmedAt, LastStep: row.LastStep, RecoveryCodes: row.RecoveryCodes}}
	r.ByHolds, err = permissionsNow(tx, row.RequestedBy)
	return f, r, err
}

// permissionsNow returns what a user or service account is permitted; nothing when they are disabled or gone.
func permissionsNow(tx *gorm.DB, id uuid.UUID) ([]string, error) {
	is, err := accessState(tx, id)
	if err == nil && !is.Disabled {
		return role.Permissions(is.Roles), nil
	}
	if err == nil || !errs.Is(err, errs.KindNotFound) {
		return nil, err
	}
	var row serviceAccountRow
	err = missing(tx.Where("id = ?", id).Take(&row).Error, "service account")
	if errs.Is(err, errs.KindNotFound) || err == nil && row.DisabledAt != nil {
		return nil, nil
	}
	return row.Permissions, err
}

func applyToRemoval(tx *gorm.DB, s account.State, c account.Changes) error {
	// A factor that is removed for another reason takes its removal with it.
	if c.Removal == nil && !c.RemoveSecondFactor {
		return nil
	}
	if err := tx.Where("user_id = ?", s.ID).Delete(&removalRow{}).Error; err != nil {
		return fmt.Errorf("end removal of second factor: %w", err)
	}
	if c.Removal == nil || c.Removal.Due.IsZero() {
		return nil
	}
	row := removalRow{
		UserID: s.ID, RequestedBy: c.Removal.By, RequestedAt: c.Removal.At, DueAt: c.Removal.Due,
		ConfirmedAt: c.Removal.Factor.ConfirmedAt, LastStep: c.Removal.Factor.LastStep,
		RecoveryCodes: c.Removal.Factor.RecoveryCodes,
	}
	if err := tx.Create(&row).Error; err != nil {
		return fmt.Errorf("store removal of second factor: %w", err)
	}
	return nil
}

// DueRemovals implements admin.Store.
func (s *Admin) DueRemovals(ctx context.Context, limit int) ([]uuid.UUID, error) {
	var users []uuid.UUID
	err := s.accounts.db.Gorm(ctx).Raw(`SELECT user_id FROM second_factor_removals WHERE due_at <= clock_timestamp()
		ORDER BY due_at LIMIT ?`, limit).Scan(&users).Error
	if err != nil {
		return nil, fmt.Errorf("read due removals of second factors: %w", err)
	}
	return users, nil
}
