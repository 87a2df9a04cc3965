package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/serviceaccount"
)

type serviceAccountRow struct {
	ID          uuid.UUID `gorm:"primaryKey"`
	Name        string
	Permissions []string `gorm:"serializer:json"`
	CreatedAt   time.Time
	DisabledAt  *time.Time
	Secrets     []serviceSecretRow `gorm:"foreignKey:AccountID"`
}

func (serviceAccountRow) TableName() string { return "service_accounts" }

type serviceSecretRow struct {
	ID         uuid.UUID `gorm:"primaryKey"`
	AccountID  uuid.UUID
	Hash       []byte
	CreatedAt  time.Time
	ExpiresAt  *time.Time
	LastUsedAt *time.Time
}

func (serviceSecretRow) TableName() string { return "service_secrets" }

// ServiceAccounts implements serviceaccount.Store.
type ServiceAccounts struct{ db *postgres.DB }

// NewServiceAccounts returns the service accounts in db.
func NewServiceAccounts(db *postgres.DB) *ServiceAccounts { return &ServiceAccounts{db: db} }

// Create implements serviceaccount.Store.
func (s *ServiceAccounts) Create(ctx context.Context, a serviceaccount.Account, e audit.Event) (created bool,
	err error) {
	err = postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		row := serviceAccountRow{ID: a.ID, Name: a.Name, Permissions: append([]string{}, a.Permissions...),
			CreatedAt: a.CreatedAt}
		done := tx.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "name"}}, DoNothing: true}).Omit(
			"Secrets").Create(&row)
		if done.Error != nil {
			return fmt.Errorf("create service account: %w", done.Error)
		}
		created = done.RowsAffected == 1
		if !created {
			return nil
		}
		for _, secret := range a.Secrets {
			if err := addSecret(tx, a.ID, secret); err != nil {
				return err
			}
		}
		return record(tx, e)
	})
	return created, err
}

func addSecret(tx *gorm.DB, account uuid.UUID, s serviceaccount.Secret) error {
	row := serviceSecretRow{ID: s.ID, AccountID: account, Hash: s.Hash[:], CreatedAt: s.CreatedAt}
	if err := tx.Create(&row).Error; err != nil {
		return fmt.Errorf("create service secret: %w", err)
	}
	return nil
}

// ByName implements serviceaccount.Store.
func (s *ServiceAccounts) ByName(ctx context.Context, name string, now time.Time) (serviceaccount.Account, error) {
	if strings.ContainsRune(name, 0) { // which no text in Postgres can hold
		name = ""
	}
	return s.find(ctx, now, "name = ?", name)
}

// ByID implements serviceaccount.Store.
func (s *ServiceAccounts) ByID(ctx context.Context, id uuid.UUID, now time.Time) (serviceaccount.Account, error) {
	return s.find(ctx, now, "id = ?", id)
}

func (s *ServiceAccounts) find(ctx context.Context, now time.Time, condition string, arg any) (serviceaccount.Account,
	error) {
	var row serviceAccountRow
	if err := s.usable(ctx, now).Where(condition, arg).Take(&row).Error; err != nil {
		return serviceaccount.Account{}, missing(err, "service account")
	}
	return row.account(), nil
}

// usable reads accounts with the secrets that can be used.
func (s *ServiceAccounts) usable(ctx context.Context, now time.Time) *gorm.DB {
	return s.db.Gorm(ctx).Preload("Secrets", func(db *gorm.DB) *gorm.DB {
		return db.Where("expires_at IS NULL OR expires_at > ?", now).Order("id DESC")
	})
}

// List implements serviceaccount.Store.
func (s *ServiceAccounts) List(ctx context.Context, now time.Time) ([]serviceaccount.Account, error) {
	var rows []serviceAccountRow
	if err := s.usable(ctx, now).Order("name").Limit(1000).Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("list service accounts: %w", err)
	}
	accounts := make([]serviceaccount.Account, len(rows))
	for i, row := range rows {
		accounts[i] = row.account()
	}
	return accounts, nil
}

func (r serviceAccountRow) account() serviceaccount.Account {
	a := serviceaccount.Account{ID: r.ID, Name: r.Name, Permissions: r.Permissions, CreatedAt: r.CreatedAt,
		DisabledAt: orZero(r.DisabledAt)}
	for _, s := range r.Secrets {
		a.Secrets = append(a.Secrets, serviceaccount.Secret{
			ID: s.ID, Hash: serviceaccount.Hash(s.Hash), CreatedAt: s.CreatedAt, ExpiresAt: orZero(s.ExpiresAt),
			LastUsedAt: orZero(s.LastUsedAt),
		})
	}
	return a
}

// changeAccount locks an account and runs fn on it in a transaction, which
// keeps e when fn says that something changed.
func (s *ServiceAccounts) changeAccount(ctx context.Context, id uuid.UUID, e audit.Event,
	fn func(tx *gorm.DB, row serviceAccountRow) (bool, error)) error {
	return postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		var row serviceAccountRow
		if err := tx.Clauses(clause.Locking{Strength: clause.LockingStrengthUpdate}).Where("id = ?",
			id).Take(&row).Error; err != nil {
			return missing(err, "service account")
		}
		changed, err := fn(tx, row)
		if err != nil || !changed {
			return err
		}
		return record(tx, e)
	})
}

// Rotate implements serviceaccount.Store.
func (s *ServiceAccounts) Rotate(ctx context.Context, id uuid.UUID, fresh serviceaccount.Secret, othersEnd time.Time,
	e audit.Event) error {
	return s.changeAccount(ctx, id, e, func(tx *gorm.DB, row serviceAccountRow) (bool, error) {
		if row.DisabledAt != nil {
			return false, errs.FailedPrecondition("SERVICE_ACCOUNT_DISABLED", "the service account is disabled")
		}
		if err := endSecrets(tx, id, othersEnd, fresh.CreatedAt); err != nil {
			return false, err
		}
		return true, addSecret(tx, id, fresh)
	})
}

// endSecrets lets an account's secrets end at a time, where they don't before.
// Those that have ended by now are deleted, and their tokens called back.
func endSecrets(tx *gorm.DB, account uuid.UUID, at, now time.Time) error {
	err := tx.Exec("UPDATE service_secrets SET expires_at = least(expires_at, ?) WHERE account_id = ?", at,
		account).Error
	if err != nil {
		return fmt.Errorf("end service secrets: %w", err)
	}
	var ended []uuid.UUID
	err = tx.Raw("DELETE FROM service_secrets WHERE account_id = ? AND expires_at <= ? RETURNING id", account,
		now).Scan(&ended).Error
	if err != nil {
		return fmt.Errorf("delete ended service secrets: %w", err)
	}
	if len(ended) == 0 {
		return nil
	}
	return announce(tx, revokedSession, ended...) // which their tokens name as their session
}

// Disable implements serviceaccount.Store.
func (s *ServiceAccounts) Disable(ctx context.Context, id uuid.UUID, at time.Time, e audit.Event) error {
	return s.changeAccount(ctx, id, e, func(tx *gorm.DB, row serviceAccountRow) (bool, error) {
		if row.DisabledAt != nil {
			return false, nil
		}
		if err := tx.Model(&serviceAccountRow{}).Where("id = ?", id).Update("disabled_at", at).Error; err != nil {
			return false, fmt.Errorf("disable service account: %w", err)
		}
		if err := endSecrets(tx, id, at, at); err != nil {
			return false, err
		}
		return true, announce(tx, revokedUser, id)
	})
}

// SetPermissions implements serviceaccount.Store.
func (s *ServiceAccounts) SetPermissions(ctx context.Context, id uuid.UUID, permissions []string,
	e audit.Event) error {
	return s.changeAccount(ctx, id, e, func(tx *gorm.DB, _ serviceAccountRow) (bool, error) {
		err := tx.Model(&serviceAccountRow{ID: id}).Select("Permissions").Updates(
			serviceAccountRow{Permissions: append([]string{}, permissions...)}).Error
		if err != nil {
			return false, fmt.Errorf("set permissions of service account: %w", err)
		}
		return true, nil
	})
}

// Used implements serviceaccount.Store.
func (s *ServiceAccounts) Used(ctx context.Context, secret uuid.UUID, at time.Time) error {
	if err := s.db.Gorm(ctx).Model(&serviceSecretRow{}).Where("id = ?", secret).Update("last_used_at",
		at).Error; err != nil {
		return fmt.Errorf("note the use of a service secret: %w", err)
	}
	return nil
}
