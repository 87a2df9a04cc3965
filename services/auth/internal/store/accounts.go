package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/audit"
)

type userRow struct {
	ID           uuid.UUID `gorm:"primaryKey"`
	Email        *string
	PasswordHash *string
	DisplayName  string
	CreatedAt    time.Time
	VerifiedAt   *time.Time        `gorm:"column:email_verified_at"`
	Attributes   map[string]string `gorm:"serializer:json"`
	DisabledAt   *time.Time
	Roles        []roleRow `gorm:"foreignKey:UserID"`
}

func (userRow) TableName() string { return "users" }

type roleRow struct {
	UserID uuid.UUID `gorm:"primaryKey"`
	Role   string    `gorm:"primaryKey"`
}

func (roleRow) TableName() string { return "user_roles" }

// Accounts implements account.Store.
type Accounts struct {
	db    *postgres.DB
	users *cache.Cache[account.User]
}

// NewAccounts returns the accounts in db; users caches them by id, and never
// that there is none, so that one who registers needs no invalidation. What
// changes a user goes through change, which invalidates it.
func NewAccounts(db *postgres.DB, users *cache.Cache[account.User]) *Accounts {
	return &Accounts{db: db, users: users}
}

// Create implements account.Store.
func (s *Accounts) Create(ctx context.Context, u account.User, hash string) (created bool, err error) {
	err = postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		row := userRow{ID: u.ID, Email: &u.Email, PasswordHash: &hash, DisplayName: u.DisplayName, CreatedAt: u.CreatedAt, Attributes: map[string]string{}}
		res := tx.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "email"}}, DoNothing: true}).
			Omit("Roles").Create(&row)
		if res.Error != nil {
			return fmt.Errorf("create user: %w", res.Error)
		}
		created = res.RowsAffected == 1
		if !created || len(u.Roles) == 0 {
			return nil
		}
		roles := make([]roleRow, len(u.Roles))
		for i, r := range u.Roles {
			roles[i] = roleRow{UserID: u.ID, Role: r}
		}
		if err := tx.Create(&roles).Error; err != nil {
			return fmt.Errorf("create roles: %w", err)
		}
		return record(tx, audit.Event{Type: audit.Registered, Subject: u.ID})
	})
	return created, err
}

// change locks a user and runs fn on them in a transaction, after which the
// cached user is let go of. errs.NotFound when there is none.
func (s *Accounts) change(ctx context.Context, id uuid.UUID, fn func(tx *gorm.DB, row userRow) error) error {
	return cache.Change(ctx, s.db, func(tx *gorm.DB) ([]cache.Stale, error) {
		var row userRow
		if err := tx.Clauses(clause.Locking{Strength: clause.LockingStrengthUpdate}).Where("id = ?", id).Take(&row).Error; err != nil {
			return nil, missing(err, "user")
		}
		if err := fn(tx, row); err != nil {
			return nil, err
		}
		return []cache.Stale{{Cache: s.users, Keys: []string{id.String()}}}, nil
	})
}

// AddRole gives the account with this address a role; no error when it has it.
// errs.NotFound when there is none.
func (s *Accounts) AddRole(ctx context.Context, email, role string) error {
	var found userRow
	if err := s.db.Gorm(ctx).Select("id").Where("email = ?", email).Take(&found).Error; err != nil {
		return missing(err, "user")
	}
	return s.change(ctx, found.ID, func(tx *gorm.DB, row userRow) error {
		err := tx.Clauses(clause.OnConflict{DoNothing: true}).Create(&roleRow{UserID: row.ID, Role: role}).Error
		if err != nil {
			return fmt.Errorf("add role: %w", err)
		}
		return record(tx, audit.Event{Type: audit.RoleGranted, Subject: row.ID, Object: role})
	})
}

// ByID implements account.Store.
func (s *Accounts) ByID(ctx context.Context, id uuid.UUID) (account.User, error) {
	u, err := s.users.Get(ctx, id.String(), func(ctx context.Context) (account.User, error) {
		var row userRow
		err := s.db.Gorm(ctx).Select("id", "email", "display_name", "created_at", "email_verified_at").Preload("Roles").
			Where("id = ?", id).Take(&row).Error
		return row.user(), err
	})
	if err != nil {
		return account.User{}, missing(err, "user")
	}
	return u, nil
}

func (r userRow) user() account.User {
	u := account.User{ID: r.ID, DisplayName: r.DisplayName, Roles: roleNames(r.Roles), CreatedAt: r.CreatedAt}
	if r.Email != nil {
		u.Email = *r.Email
	}
	if r.VerifiedAt != nil {
		u.VerifiedAt = *r.VerifiedAt
	}
	return u
}

// standing is what a user may do at the moment.
func standing(tx *gorm.DB, user uuid.UUID) (account.Standing, error) {
	var row userRow
	err := tx.Select("id", "attributes", "disabled_at").Preload("Roles", func(db *gorm.DB) *gorm.DB { return db.Order("role") }).
		Where("id = ?", user).Take(&row).Error
	if err != nil {
		return account.Standing{}, missing(err, "user")
	}
	return account.Standing{Roles: roleNames(row.Roles), Attributes: row.Attributes, Disabled: row.DisabledAt != nil}, nil
}

func roleNames(rows []roleRow) []string {
	names := make([]string, len(rows))
	for i, r := range rows {
		names[i] = r.Role
	}
	return names
}
