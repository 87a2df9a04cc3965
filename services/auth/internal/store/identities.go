package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/identity"
)

type identityRow struct {
	ID         uuid.UUID `gorm:"primaryKey"`
	UserID     uuid.UUID
	Provider   string
	Subject    string
	Label      string
	CreatedAt  time.Time
	LastUsedAt *time.Time
}

func (identityRow) TableName() string { return "identities" }

func (r identityRow) identity() identity.Identity {
	i := identity.Identity{ID: r.ID, UserID: r.UserID, Provider: r.Provider, Subject: r.Subject, Label: r.Label,
		CreatedAt: r.CreatedAt}
	if r.LastUsedAt != nil {
		i.LastUsedAt = *r.LastUsedAt
	}
	return i
}

// Identities implements identity.Store.
type Identities struct{ accounts *Accounts }

// NewIdentities returns the identities of accounts.
func NewIdentities(a *Accounts) *Identities { return &Identities{accounts: a} }

// errOvertaken ends a transaction that another one was faster than: what it
// found is not so any more.
var errOvertaken = errors.New("overtaken")

// Resolve implements identity.Store.
func (s *Identities) Resolve(ctx context.Context, c identity.Claim, u account.User,
	decide func(identity.Found) (identity.Step, error)) (identity.SignedIn, error) {
	for attempt := 1; ; attempt++ {
		var in identity.SignedIn
		err := cache.Change(ctx, s.accounts.db, func(tx *gorm.DB) ([]cache.Invalidation, error) {
			var err error
			in, err = resolve(tx, c, u, decide)
			return []cache.Invalidation{{Cache: s.accounts.users, Keys: []string{in.User.String()}}}, err
		})
		if !errors.Is(err, errOvertaken) {
			return in, err
		}
		if attempt == 3 { // each time by one that did what this one wants
			return identity.SignedIn{}, errs.Conflict("IDENTITY_CHANGED",
				"the identity is being linked elsewhere; try again")
		}
	}
}

func resolve(tx *gorm.DB, c identity.Claim, u account.User,
	decide func(identity.Found) (identity.Step, error)) (in identity.SignedIn, err error) {
	var found identity.Found
	var linked identityRow
	err = tx.Where("provider = ? AND subject = ?", c.Provider, c.Subject).Take(&linked).Error
	switch {
	case err == nil:
		found.Linked, err = owner(tx, "id = ?", linked.UserID)
	case errors.Is(err, gorm.ErrRecordNotFound) && c.Verified:
		found.ByEmail, err = owner(tx, "email = ?", c.Email)
	case errors.Is(err, gorm.ErrRecordNotFound):
		err = nil
	}
	if err != nil {
		return in, missing(err, "identity")
	}
	step, err := decide(found)
	if err != nil {
		return in, err
	}
	switch step {
	case identity.SignIn:
		in = identity.SignedIn{User: linked.UserID, Identity: linked.ID}
		return in, used(tx, linked, c, u.CreatedAt)
	case identity.Create:
		in.User = u.ID
		in.Identity, err = createFor(tx, c, u)
		return in, err
	case identity.TakeOver:
		if err := empty(tx, found.ByEmail.ID); err != nil {
			return in, err
		}
	}
	in.User = found.ByEmail.ID
	err = tx.Model(&userRow{ID: in.User}).Where("email_verified_at IS NULL").Update("email_verified_at",
		u.VerifiedAt).Error
	if err != nil {
		return in, fmt.Errorf("verify address: %w", err)
	}
	in.Identity, err = link(tx, in.User, c, u.CreatedAt, "EMAIL_VERIFIED")
	return in, err
}

// used notes that an identity was signed in with. errOvertaken when it was
// taken from its user while their row was waited for.
func used(tx *gorm.DB, linked identityRow, c identity.Claim, now time.Time) error {
	done := tx.Model(&identityRow{}).Where("id = ? AND user_id = ?", linked.ID, linked.UserID).
		Select("LastUsedAt", "Label").Updates(identityRow{LastUsedAt: &now, Label: c.Label})
	if done.Error != nil {
		return fmt.Errorf("note the use of an identity: %w", done.Error)
	}
	if done.RowsAffected == 0 {
		return errOvertaken
	}
	return nil
}

// owner locks the account that meets a condition; nil when there is none.
func owner(tx *gorm.DB, condition string, arg any) (*identity.Owner, error) {
	var row userRow
	err := tx.Clauses(clause.Locking{Strength: clause.LockingStrengthUpdate}).Where(condition, arg).Take(&row).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return nil, nil //nolint:nilnil // that there is none is an answer
	}
	return &identity.Owner{ID: row.ID, Verified: row.VerifiedAt != nil, Disabled: row.DisabledAt != nil}, err
}

// createFor makes an account without a password.
func createFor(tx *gorm.DB, c identity.Claim, u account.User) (linked uuid.UUID, err error) {
	row := userRow{ID: u.ID, Profile: columns(u), CreatedAt: u.CreatedAt, Attributes: map[string]string{}}
	if u.Email != "" {
		row.Email, row.VerifiedAt = &u.Email, &u.VerifiedAt
	}
	done := tx.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "email"}}, DoNothing: true}).Omit(
		"Roles").Create(&row)
	if done.Error != nil {
		return linked, fmt.Errorf("create user: %w", done.Error)
	}
	if done.RowsAffected == 0 { // registered meanwhile
		return linked, errOvertaken
	}
	if err := grant(tx, u.ID, u.Roles); err != nil {
		return linked, err
	}
	if err := record(tx, audit.Event{Type: audit.Registered, Reason: c.Provider, Subject: u.ID}); err != nil {
		return linked, err
	}
	return link(tx, u.ID, c, u.CreatedAt, "ACCOUNT_CREATED")
}

// link gives an identity to a user and returns its id. errOvertaken when it has
// an owner by now.
func link(tx *gorm.DB, user uuid.UUID, c identity.Claim, now time.Time, reason string) (uuid.UUID, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return id, fmt.Errorf("new identity id: %w", err)
	}
	row := identityRow{ID: id, UserID: user, Provider: c.Provider, Subject: c.Subject, Label: c.Label, CreatedAt: now,
		LastUsedAt: &now}
	done := tx.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "provider"}, {Name: "subject"}},
		DoNothing: true}).Create(&row)
	if done.Error != nil {
		return id, fmt.Errorf("create identity: %w", done.Error)
	}
	if done.RowsAffected == 0 {
		return id, errOvertaken
	}
	return id, record(tx, identity.Linked(user, id, reason))
}

// empty takes from an account everything that it could be signed in with.
func empty(tx *gorm.DB, user uuid.UUID) error {
	if err := tx.Model(&userRow{ID: user}).Update("password_hash", nil).Error; err != nil {
		return fmt.Errorf("drop password: %w", err)
	}
	if err := tx.Where("user_id = ?", user).Delete(&factorRow{}).Error; err != nil {
		return fmt.Errorf("drop second factor: %w", err)
	}
	if _, err := revoke(tx, "ACCOUNT_TAKEN_OVER", "user_id = ?", user); err != nil {
		return err
	}
	if _, err := strip(tx, "user_id = ?", user); err != nil {
		return err
	}
	return record(tx, audit.Event{Type: audit.AccountTakenOver, Reason: "EMAIL_UNVERIFIED", Subject: user})
}

// strip unlinks the identities, and revokes the API keys, that meet a
// condition, and reports whether there were any.
func strip(tx *gorm.DB, condition string, args ...any) (bool, error) {
	gone := tx.Where(condition, args...).Delete(&identityRow{})
	if gone.Error != nil {
		return false, fmt.Errorf("unlink identities: %w", gone.Error)
	}
	var keys []uuid.UUID
	err := tx.Raw("UPDATE api_keys SET revoked_at = clock_timestamp() WHERE revoked_at IS NULL AND "+condition+" RETURNING id", args...).Scan(&keys).Error
	if err != nil {
		return false, fmt.Errorf("revoke API keys: %w", err)
	}
	if len(keys) == 0 {
		return gone.RowsAffected > 0, nil
	}
	return true, announce(tx, revokedSession, keys...)
}

// Add implements identity.Store.
func (s *Identities) Add(ctx context.Context, user uuid.UUID, c identity.Claim, now time.Time,
	most int) (added identity.Identity, err error) {
	err = s.accounts.change(ctx, user, func(tx *gorm.DB, _ userRow) error {
		var n int64
		if err := tx.Model(&identityRow{}).Where("user_id = ?", user).Count(&n).Error; err != nil {
			return fmt.Errorf("count identities: %w", err)
		}
		if n >= int64(most) {
			return errs.FailedPrecondition("TOO_MANY_IDENTITIES",
				fmt.Sprintf("an account has at most %d identities; unlink one first", most))
		}
		id, err := link(tx, user, c, now, "LINKED")
		if errors.Is(err, errOvertaken) {
			return errs.AlreadyExists("IDENTITY_LINKED", "this identity belongs to an account already")
		}
		if err != nil {
			return err
		}
		var row identityRow
		if err := tx.Where("id = ?", id).Take(&row).Error; err != nil {
			return missing(err, "identity")
		}
		added = row.identity()
		return nil
	})
	return added, err
}

// List implements identity.Store.
func (s *Identities) List(ctx context.Context, user uuid.UUID) ([]identity.Identity, error) {
	var rows []identityRow
	if err := s.accounts.db.Gorm(ctx).Where("user_id = ?", user).Order("id").Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("list identities: %w", err)
	}
	list := make([]identity.Identity, len(rows))
	for i, row := range rows {
		list[i] = row.identity()
	}
	return list, nil
}

// Remove implements identity.Store. The user's row is locked, so that of two
// that are removed at once the second sees that it is the last.
func (s *Identities) Remove(ctx context.Context, user, id uuid.UUID) error {
	return s.accounts.change(ctx, user, func(tx *gorm.DB, row userRow) error {
		var all []identityRow
		if err := tx.Where("user_id = ?", user).Find(&all).Error; err != nil {
			return fmt.Errorf("read identities: %w", err)
		}
		mine := false
		for _, i := range all {
			mine = mine || i.ID == id
		}
		if !mine {
			return errs.NotFound("identity")
		}
		if len(all) == 1 && (row.PasswordHash == nil || row.Email == nil) {
			return errs.FailedPrecondition("LAST_SIGN_IN_METHOD",
				"it is the only way to sign in to the account; set a password or link another first")
		}
		if err := tx.Delete(&identityRow{ID: id}).Error; err != nil {
			return fmt.Errorf("delete identity: %w", err)
		}
		return record(tx, audit.Event{Type: audit.IdentityUnlinked, Actor: user, Subject: user, Object: id.String()})
	})
}
