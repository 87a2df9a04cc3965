package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/audit"
)

type userRow struct {
	ID           uuid.UUID `gorm:"primaryKey"`
	Email        *string
	PasswordHash *string
	Profile      profileColumns `gorm:"embedded"`
	CreatedAt    time.Time
	VerifiedAt   *time.Time        `gorm:"column:email_verified_at"`
	Attributes   map[string]string `gorm:"serializer:json"`
	DisabledAt   *time.Time
	DeleteAt     *time.Time
	InvitedAt    *time.Time
	Roles        []roleRow `gorm:"foreignKey:UserID"`
}

// profileColumns are the columns of users that they edit themselves.
type profileColumns struct {
	DisplayName string
	FirstName   string
	LastName    string
	Bio         string
	PictureURL  string
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
	mails *Mails
}

// NewAccounts returns the accounts in db. users caches them by id; it caches no absence, so a registration needs no
// invalidation. mails is woken when one may have been queued.
func NewAccounts(db *postgres.DB, users *cache.Cache[account.User], mails *Mails) *Accounts {
	return &Accounts{db: db, users: users, mails: mails}
}

// Register implements account.Store.
func (s *Accounts) Register(ctx context.Context, r account.Registration, include account.Include,
	taken account.Decide) error {
	err := postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		row := userRow{
			ID: r.User.ID, Email: &r.User.Email, PasswordHash: &r.PasswordHash,
			Profile: profileColumnsOf(r.User.Profile), CreatedAt: r.User.CreatedAt,
			Attributes: map[string]string{},
		}
		created, err := createUser(tx, &row, r.User.Roles)
		if err != nil {
			return err
		}
		if created && r.Decide == nil {
			return nil
		}
		if created {
			return decideAndApply(tx, account.State{User: r.User}, r.User.CreatedAt, r.Include, r.Decide)
		}
		owner, now, err := lockAccount(tx, "email = ?", r.User.Email)
		if err != nil {
			return errs.Unavailable("TRY_AGAIN", "the account with this address was deleted just now").Because(err)
		}
		return decideAndApply(tx, owner, now, include, taken)
	})
	s.mails.signalQueued()
	return err
}

// createUser stores a user with their roles; false when the address is taken.
func createUser(tx *gorm.DB, row *userRow, roles []string) (bool, error) {
	done := tx.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "email"}}, DoNothing: true}).
		Omit("Roles").Create(row)
	if done.Error != nil {
		return false, fmt.Errorf("create user: %w", done.Error)
	}
	if done.RowsAffected == 0 {
		return false, nil
	}
	return true, addRoles(tx, row.ID, roles)
}

func addRoles(tx *gorm.DB, user uuid.UUID, names []string) error {
	if len(names) == 0 {
		return nil
	}
	roles := make([]roleRow, len(names))
	for i, r := range names {
		roles[i] = roleRow{UserID: user, Role: r}
	}
	if err := tx.Create(&roles).Error; err != nil {
		return fmt.Errorf("create roles: %w", err)
	}
	return nil
}

// AddRole gives the account with this address a role and returns the account, unless check refuses it; no error when
// it has the role. errs.NotFound when there is no such account.
func (s *Accounts) AddRole(ctx context.Context, email, role string, check func(account.User) error) (account.User,
	error) {
	var user account.State
	err := cache.Change(ctx, s.db, func(tx *gorm.DB) (_ []cache.Invalidation, err error) {
		if user, _, err = lockAccount(tx, "email = ?", email); err != nil {
			return nil, err
		}
		if err := check(user.User); err != nil {
			return nil, err
		}
		err = tx.Clauses(clause.OnConflict{DoNothing: true}).Create(&roleRow{UserID: user.ID, Role: role}).Error
		if err != nil {
			return nil, fmt.Errorf("add role: %w", err)
		}
		return s.stale(user.ID), record(tx, audit.Event{Type: audit.RoleGranted, Subject: user.ID, Object: role})
	})
	return user.User, err
}

// ByID implements account.Store.
func (s *Accounts) ByID(ctx context.Context, id uuid.UUID) (account.User, error) {
	u, err := s.users.Get(ctx, id.String(), func(ctx context.Context) (account.User, error) {
		var row userRow
		err := s.db.Gorm(ctx).Omit("password_hash").Preload("Roles").Where("id = ?", id).Take(&row).Error
		return row.user(), err
	})
	if err != nil {
		return account.User{}, missing(err, "user")
	}
	return u, nil
}

// Password implements account.Store.
func (s *Accounts) Password(ctx context.Context, id uuid.UUID) (email, hash string, err error) {
	var row userRow
	if err := s.db.Gorm(ctx).Select("email", "password_hash").Where("id = ?", id).Take(&row).Error; err != nil {
		return "", "", missing(err, "user")
	}
	return orEmpty(row.Email), orEmpty(row.PasswordHash), nil
}

func (r userRow) user() account.User {
	return account.User{
		ID: r.ID, Email: orEmpty(r.Email), Roles: roleNames(r.Roles), CreatedAt: r.CreatedAt,
		VerifiedAt: orZero(r.VerifiedAt),
		Profile: account.Profile{
			DisplayName: r.Profile.DisplayName, FirstName: r.Profile.FirstName, LastName: r.Profile.LastName,
			Bio: r.Profile.Bio, PictureURL: r.Profile.PictureURL,
		},
	}
}

func profileColumnsOf(p account.Profile) profileColumns {
	return profileColumns{
		DisplayName: p.DisplayName, FirstName: p.FirstName, LastName: p.LastName, Bio: p.Bio,
		PictureURL: p.PictureURL,
	}
}

// accessState reads what a user may do now; errs.NotFound.
func accessState(tx *gorm.DB, user uuid.UUID) (account.AccessState, error) {
	var row userRow
	err := tx.Select("id", "attributes", "disabled_at").Preload("Roles",
		func(db *gorm.DB) *gorm.DB { return db.Order("role") }).
		Where("id = ?", user).Take(&row).Error
	if err != nil {
		return account.AccessState{}, missing(err, "user")
	}
	disabled := row.DisabledAt != nil
	return account.AccessState{Roles: roleNames(row.Roles), Attributes: row.Attributes, Disabled: disabled}, nil
}

func roleNames(rows []roleRow) []string {
	names := make([]string, len(rows))
	for i, r := range rows {
		names[i] = r.Role
	}
	return names
}
