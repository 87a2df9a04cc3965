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
	Roles        []roleRow `gorm:"foreignKey:UserID"`
}

// profileColumns are what a user can change of themselves.
type profileColumns struct {
	DisplayName       string
	FirstName         string
	LastName          string
	Bio               string
	TimeZone          string
	PreferredCurrency string
	PictureURL        string
	Notifications     account.Notifications `gorm:"serializer:json"`
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

// NewAccounts returns the accounts in db; users caches them by id, and never
// that there is none, so that one who registers needs no invalidation. What
// changes a user goes through change, which invalidates it. mails is woken when
// one was queued.
func NewAccounts(db *postgres.DB, users *cache.Cache[account.User], mails *Mails) *Accounts {
	return &Accounts{db: db, users: users, mails: mails}
}

// Register implements account.Store.
func (s *Accounts) Register(ctx context.Context, r account.Registration) error {
	err := postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		row := userRow{
			ID: r.User.ID, Email: &r.User.Email, PasswordHash: &r.PasswordHash, Profile: columns(r.User),
			CreatedAt: r.User.CreatedAt, Attributes: map[string]string{},
		}
		res := tx.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "email"}}, DoNothing: true}).
			Omit("Roles").Create(&row)
		if res.Error != nil {
			return fmt.Errorf("create user: %w", res.Error)
		}
		if res.RowsAffected == 0 {
			return tried(tx, r)
		}
		if err := grant(tx, r.User.ID, r.User.Roles); err != nil {
			return err
		}
		if err := ask(tx, row, r.Asked); err != nil {
			return err
		}
		return record(tx, audit.Event{Type: audit.Registered, Subject: r.User.ID})
	})
	s.mails.signalQueued()
	return err
}

func grant(tx *gorm.DB, user uuid.UUID, names []string) error {
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

// tried tells the owner of an address that somebody tried to register it.
func tried(tx *gorm.DB, r account.Registration) error {
	row, err := lockUser(tx, "email = ?", r.User.Email)
	if err != nil {
		return errs.Unavailable("TRY_AGAIN", "the account with this address was deleted just now").Because(err)
	}
	may, err := mayQueueMail(tx, row.ID, r.Tried.Kind, r.MailsPerHour)
	if err != nil {
		return err
	}
	if may {
		if err := queueMail(tx, to(row, r.Tried)); err != nil {
			return err
		}
	}
	return record(tx, audit.Event{Type: audit.RegistrationTried, Outcome: audit.Refused, Reason: "EMAIL_TAKEN",
		Subject: row.ID})
}

// lockUser locks the user that meets a condition; errs.NotFound.
func lockUser(tx *gorm.DB, condition string, arg any) (row userRow, err error) {
	err = tx.Clauses(clause.Locking{Strength: clause.LockingStrengthUpdate}).Where(condition, arg).Take(&row).Error
	return row, missing(err, "user")
}

// change locks a user and runs fn on them in a transaction, after which the
// cached user is let go of. errs.NotFound when there is none.
func (s *Accounts) change(ctx context.Context, id uuid.UUID, fn func(tx *gorm.DB, row userRow) error) error {
	return cache.Change(ctx, s.db, func(tx *gorm.DB) ([]cache.Stale, error) {
		row, err := lockUser(tx, "id = ?", id)
		if err != nil {
			return nil, err
		}
		if err := present(tx, id); err != nil {
			return nil, err
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
		err := s.db.Gorm(ctx).Omit("password_hash").Preload("Roles").Where("id = ?", id).Take(&row).Error
		return row.user(), err
	})
	if err != nil {
		return account.User{}, missing(err, "user")
	}
	return u, nil
}

func (r userRow) user() account.User {
	u := account.User{
		ID: r.ID, Roles: roleNames(r.Roles), CreatedAt: r.CreatedAt, Notifications: r.Profile.Notifications,
		Profile: account.Profile{
			DisplayName: r.Profile.DisplayName, FirstName: r.Profile.FirstName, LastName: r.Profile.LastName,
			Bio:      r.Profile.Bio,
			TimeZone: r.Profile.TimeZone, Currency: r.Profile.PreferredCurrency, PictureURL: r.Profile.PictureURL,
		},
	}
	if r.Email != nil {
		u.Email = *r.Email
	}
	if r.VerifiedAt != nil {
		u.VerifiedAt = *r.VerifiedAt
	}
	return u
}

func columns(u account.User) profileColumns {
	return profileColumns{
		DisplayName: u.DisplayName, FirstName: u.FirstName, LastName: u.LastName, Bio: u.Bio,
		TimeZone: u.TimeZone, PreferredCurrency: u.Currency, PictureURL: u.PictureURL, Notifications: u.Notifications,
	}
}

// standing is what a user may do at the moment.
func standing(tx *gorm.DB, user uuid.UUID) (account.Standing, error) {
	var row userRow
	err := tx.Select("id", "attributes", "disabled_at").Preload("Roles",
		func(db *gorm.DB) *gorm.DB { return db.Order("role") }).
		Where("id = ?", user).Take(&row).Error
	if err != nil {
		return account.Standing{}, missing(err, "user")
	}
	return account.Standing{Roles: roleNames(row.Roles), Attributes: row.Attributes, Disabled: row.DisabledAt != nil},
		nil
}

func roleNames(rows []roleRow) []string {
	names := make([]string, len(rows))
	for i, r := range rows {
		names[i] = r.Role
	}
	return names
}
