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
)

type userRow struct {
	ID           uuid.UUID `gorm:"primaryKey"`
	Email        string
	PasswordHash string
	DisplayName  string
	CreatedAt    time.Time
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
// that there is none, so that one who registers needs no invalidation. Whatever
// changes a user later has to invalidate it.
func NewAccounts(db *postgres.DB, users *cache.Cache[account.User]) *Accounts {
	return &Accounts{db: db, users: users}
}

// Create implements account.Store.
func (s *Accounts) Create(ctx context.Context, u account.User, hash string) (created bool, err error) {
	err = postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		row := userRow{ID: u.ID, Email: u.Email, PasswordHash: hash, DisplayName: u.DisplayName, CreatedAt: u.CreatedAt}
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
		return nil
	})
	return created, err
}

// AddRole gives the account with this address a role; no error when it has it.
// errs.NotFound when there is none.
func (s *Accounts) AddRole(ctx context.Context, email, role string) error {
	return postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		var row userRow
		if err := tx.Select("id").Where("email = ?", email).Take(&row).Error; err != nil {
			return missing(err, "user")
		}
		err := tx.Clauses(clause.OnConflict{DoNothing: true}).Create(&roleRow{UserID: row.ID, Role: role}).Error
		if err != nil {
			return fmt.Errorf("add role: %w", err)
		}
		return nil
	})
}

// ByID implements account.Store.
func (s *Accounts) ByID(ctx context.Context, id uuid.UUID) (account.User, error) {
	u, err := s.users.Get(ctx, id.String(), func(ctx context.Context) (account.User, error) {
		var row userRow
		err := s.db.Gorm(ctx).Select("id", "email", "display_name", "created_at").Preload("Roles").
			Where("id = ?", id).Take(&row).Error
		return account.User{
			ID: row.ID, Email: row.Email, DisplayName: row.DisplayName,
			Roles: roleNames(row.Roles), CreatedAt: row.CreatedAt,
		}, err
	})
	if err != nil {
		return account.User{}, missing(err, "user")
	}
	return u, nil
}

func roleNames(rows []roleRow) []string {
	names := make([]string, len(rows))
	for i, r := range rows {
		names[i] = r.Role
	}
	return names
}
