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
	return identity.Identity{ID: r.ID, UserID: r.UserID, Provider: r.Provider, Subject: r.Subject, Label: r.Label,
		CreatedAt: r.CreatedAt, LastUsedAt: orZero(r.LastUsedAt)}
}

// Identities implements identity.Store.
type Identities struct{ accounts *Accounts }

// NewIdentities returns the identities of accounts.
func NewIdentities(a *Accounts) *Identities { return &Identities{accounts: a} }

// errRace ends a transaction in which another one has changed what this one had found.
var errRace = errors.New("changed by a concurrent transaction")

// maxResolveAttempts bounds the repetitions after errRace.
const maxResolveAttempts = 3

// Resolve implements identity.Store.
func (s *Identities) Resolve(ctx context.Context, c identity.Claim, u account.User,
	decide func(identity.Found) (identity.Decision, error)) (identity.SignedIn, error) {
	for attempt := 1; ; attempt++ {
		var in identity.SignedIn
		err := cache.Change(ctx, s.accounts.db, func(tx *gorm.DB) (_ []cache.Invalidation, err error) {
			if in, err = resolve(tx, c, u, decide); err == nil {
				in.LastEnd, err = lastEnd(tx, in.User)
			}
			return s.accounts.stale(in.User), err
		})
		if !errors.Is(err, errRace) {
			s.accounts.mails.signalQueued() // a notice, perhaps
			return in, err
		}
		if attempt == maxResolveAttempts {
			return identity.SignedIn{}, errs.Conflict("IDENTITY_CHANGED",
				"the identity is being linked by another call; try again")
		}
	}
}

func resolve(tx *gorm.DB, c identity.Claim, u account.User,
	decide func(identity.Found) (identity.Decision, error)) (in identity.SignedIn, err error) {
	linked, found, err := find(tx, c)
	if err != nil {
		return in, err
	}
	d, err := decide(found)
	if err != nil {
		return in, err
	}
	switch d.Step {
	case identity.SignIn:
		in = identity.SignedIn{User: linked.UserID, Identity: linked.ID}
		return in, recordUse(tx, linked, c, u.CreatedAt)
	case identity.Create:
		in.User = u.ID
		in.Identity, err = createFor(tx, c, u)
		return in, err
	}
	in.User = found.ByEmail.ID
	if err := apply(tx, *found.ByEmail, d.Changes); err != nil {
		return in, err
	}
	in.Identity, err = link(tx, in.User, c, u.CreatedAt, "EMAIL_VERIFIED")
	return in, err
}

// find reads the identity of a claim, and locks its account or, when there is none, the one with the claim's verified
// address.
func find(tx *gorm.DB, c identity.Claim) (linked identityRow, found identity.Found, err error) {
	err = tx.Where("provider = ? AND subject = ?", c.Provider, c.Subject).Take(&linked).Error
	switch {
	case err == nil:
		found.Linked, err = lockIfAny(tx, account.Include{}, "id = ?", linked.UserID)
	case !errors.Is(err, gorm.ErrRecordNotFound):
		err = missing(err, "identity")
	case c.Verified:
		found.ByEmail, err = lockIfAny(tx, account.Include{Credentials: true}, "email = ?", c.Email)
	default:
		err = nil
	}
	return linked, found, err
}

// lockIfAny locks and reads the account that meets a condition; nil when there is none.
func lockIfAny(tx *gorm.DB, include account.Include, condition string, arg any) (*account.State, error) {
	state, _, err := lockAccount(tx, condition, arg)
	if errs.Is(err, errs.KindNotFound) {
		return nil, nil //nolint:nilnil // that there is none is an answer
	}
	if err == nil {
		err = complete(tx, &state, include)
	}
	return &state, err
}

// recordUse stores that an identity was signed in with. errRace when it was unlinked while this transaction waited for
// the lock on its user.
func recordUse(tx *gorm.DB, linked identityRow, c identity.Claim, now time.Time) error {
	done := tx.Model(&identityRow{}).Where("id = ? AND user_id = ?", linked.ID, linked.UserID).
		Select("LastUsedAt", "Label").Updates(identityRow{LastUsedAt: &now, Label: c.Label})
	if done.Error != nil {
		return fmt.Errorf("record the use of an identity: %w", done.Error)
	}
	if done.RowsAffected == 0 {
		return errRace
	}
	return nil
}

// createFor creates an account without a password and links an identity to it. errRace when the address was registered
// meanwhile.
func createFor(tx *gorm.DB, c identity.Claim, u account.User) (linked uuid.UUID, err error) {
	row := userRow{ID: u.ID, Profile: profileColumnsOf(u.Profile), CreatedAt: u.CreatedAt,
		Attributes: map[string]string{}}
	if u.Email != "" {
		row.Email, row.VerifiedAt = &u.Email, &u.VerifiedAt
	}
	created, err := createUser(tx, &row, u.Roles)
	if err != nil {
		return linked, err
	}
	if !created {
		return linked, errRace
	}
	if err := record(tx, audit.Event{Type: audit.Registered, Reason: c.Provider, Subject: u.ID}); err != nil {
		return linked, err
	}
	return link(tx, u.ID, c, u.CreatedAt, "ACCOUNT_CREATED")
}

// link links an identity to a user and returns its id. errRace when it belongs to an account by now.
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
		return id, errRace
	}
	return id, record(tx, identity.Linked(user, id, reason))
}

// Add implements identity.Store.
func (s *Identities) Add(ctx context.Context, user uuid.UUID, c identity.Claim, now time.Time,
	check func(linked int) error) (added identity.Identity, err error) {
	err = inTx(ctx, s.accounts.db, func(tx *gorm.DB) error {
		if _, err := lockCaller(tx, targets{user: user}); err != nil {
			return err
		}
		if _, _, err := lockAccount(tx, "id = ?", user); err != nil {
			return err
		}
		var n int64
		if err := tx.Model(&identityRow{}).Where("user_id = ?", user).Count(&n).Error; err != nil {
			return fmt.Errorf("count identities: %w", err)
		}
		if err := check(int(n)); err != nil {
			return err
		}
		id, err := link(tx, user, c, now, "LINKED")
		if errors.Is(err, errRace) {
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

// Change implements identity.Store.
func (s *Identities) Change(ctx context.Context, user uuid.UUID, decide account.Decide) error {
	return s.accounts.Change(ctx, user, account.Include{Credentials: true}, decide)
}
