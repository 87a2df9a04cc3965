package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

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
		held, err := lockCaller(tx, targets{})
		if err != nil {
			return err
		}
		if err := held.Require(a.Permissions...); err != nil {
			return err
		}
		row := serviceAccountRow{ID: a.ID, Name: a.Name, Permissions: permissionList(a.Permissions),
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
	if strings.ContainsRune(name, 0) { // Postgres has no text with a NUL
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

// usable selects accounts with the secrets that can be used at now.
func (s *ServiceAccounts) usable(ctx context.Context, now time.Time) *gorm.DB {
	return s.db.Gorm(ctx).Preload("Secrets", func(db *gorm.DB) *gorm.DB {
		return db.Where("expires_at IS NULL OR expires_at > ?", now).Order("id DESC")
	})
}

// List implements serviceaccount.Store.
func (s *ServiceAccounts) List(ctx context.Context, after string, limit int,
	now time.Time) ([]serviceaccount.Account, error) {
	var rows []serviceAccountRow
	// In the order of bytes, whatever the database's collation is: names are ASCII.
	q := s.usable(ctx, now).Where(`name COLLATE "C" > ?`, after).Order(`name COLLATE "C"`).Limit(limit)
	if err := q.Find(&rows).Error; err != nil {
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

// Change implements serviceaccount.Store.
func (s *ServiceAccounts) Change(ctx context.Context, id uuid.UUID, change serviceaccount.Change) error {
	return postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		held, err := lockCaller(tx, targets{serviceAccount: id})
		if err != nil {
			return err
		}
		var row serviceAccountRow
		if err := tx.Where("id = ?", id).Take(&row).Error; err != nil {
			return missing(err, "service account")
		}
		// Whoever has a new secret of the account, or ends it, acts with its permissions.
		if err := held.Require(row.Permissions...); err != nil {
			return err
		}
		if err := tx.Where("account_id = ?", id).Order("id DESC").Find(&row.Secrets).Error; err != nil {
			return fmt.Errorf("read service secrets: %w", err)
		}
		was := row.account()
		is, e, err := change(was)
		if err != nil {
			return err
		}
		if err := held.Require(is.Permissions...); err != nil {
			return err
		}
		row = serviceAccountRow{ID: id, Permissions: permissionList(is.Permissions),
			DisabledAt: nullTime(is.DisabledAt)}
		if err := tx.Select("Permissions", "DisabledAt").Updates(&row).Error; err != nil {
			return fmt.Errorf("update service account: %w", err)
		}
		if err := storeSecrets(tx, id, was.Secrets, is.Secrets); err != nil {
			return err
		}
		lost := slices.ContainsFunc(was.Permissions,
			func(p string) bool { return !slices.Contains(is.Permissions, p) })
		if lost || was.DisabledAt.IsZero() && !is.DisabledAt.IsZero() {
			if err := announce(tx, revokedUser, id); err != nil {
				return err
			}
		}
		if e.Type == "" {
			return nil
		}
		return record(tx, e)
	})
}

// permissionList returns permissions as they are stored: never null.
func permissionList(permissions []string) []string { return append([]string{}, permissions...) }

// storeSecrets adds, changes and deletes an account's secrets, and revokes the tokens of those that it deletes.
func storeSecrets(tx *gorm.DB, account uuid.UUID, was, is []serviceaccount.Secret) error {
	byID := func(list []serviceaccount.Secret, id uuid.UUID) (serviceaccount.Secret, bool) {
		i := slices.IndexFunc(list, func(s serviceaccount.Secret) bool { return s.ID == id })
		if i < 0 {
			return serviceaccount.Secret{}, false
		}
		return list[i], true
	}
	var dropped []uuid.UUID
	for _, s := range was {
		left, ok := byID(is, s.ID)
		switch {
		case !ok:
			dropped = append(dropped, s.ID)
		case !left.ExpiresAt.Equal(s.ExpiresAt):
			err := tx.Model(&serviceSecretRow{ID: s.ID}).Update("expires_at", left.ExpiresAt).Error
			if err != nil {
				return fmt.Errorf("update service secret: %w", err)
			}
		}
	}
	if len(dropped) > 0 {
		if err := tx.Where("id IN ?", dropped).Delete(&serviceSecretRow{}).Error; err != nil {
			return fmt.Errorf("delete service secrets: %w", err)
		}
		// Their tokens name them as their sessions.
		if err := announce(tx, revokedSession, dropped...); err != nil {
			return err
		}
	}
	for _, s := range is {
		if _, ok := byID(was, s.ID); ok {
			continue
		}
		if err := addSecret(tx, account, s); err != nil {
			return err
		}
	}
	return nil
}

// RecordUse implements serviceaccount.Store.
func (s *ServiceAccounts) RecordUse(ctx context.Context, secret uuid.UUID, at time.Time) error {
	if err := s.db.Gorm(ctx).Model(&serviceSecretRow{}).Where("id = ?", secret).Update("last_used_at",
		at).Error; err != nil {
		return fmt.Errorf("record the use of a service secret: %w", err)
	}
	return nil
}
