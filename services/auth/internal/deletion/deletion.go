// Package deletion has the rules of deleting accounts by operators, and of telling services whose data to erase.
//
// It promises: the deletion of an account and its place in the list that services follow are one transaction, and
// places are in the order of commits, so that whoever reads the list from a cursor on misses none; only ids of users
// who were deleted are ever in it; what is kept of them is the id and the time.
//
// Limits: that a service has erased what it had is its own statement.
package deletion

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/mail"
	"github.com/purserhq/purser/services/auth/internal/role"
)

// Deleted is a user who was deleted.
type Deleted struct {
	User   uuid.UUID
	At     time.Time
	Cursor int64 // their place in the order of commits, from 1
}

// Deletion is what became of an account that is to be deleted.
type Deletion struct {
	User uuid.UUID
	// PlannedFor is when the account is deleted; zero once it is.
	PlannedFor time.Time
	// DeletedAt is zero before.
	DeletedAt time.Time
	Cursor    int64
	// Services are those that have to erase the user's data.
	Services []Erasure
}

// Erasure is what a service account has reported about a deletion.
type Erasure struct {
	Account uuid.UUID
	Name    string
	At      time.Time // zero before it has
}

// Erased reports whether every service has erased the user's data. Where no service has to, nobody has.
func (d Deletion) Erased() bool {
	for _, s := range d.Services {
		if s.At.IsZero() {
			return false
		}
	}
	return len(d.Services) > 0
}

// Page says which deletions to list.
type Page struct {
	Before   int64 // the place after the last one; the newest when 0
	Limit    int
	Unerased bool // only those that some service has not erased
}

// Store has the deletions.
type Store interface {
	// Change locks an account and stores what decide returns; errs.NotFound.
	Change(ctx context.Context, id uuid.UUID, include account.Include, decide account.Decide) error
	// Due returns up to limit accounts whose time to be deleted has come.
	Due(ctx context.Context, limit int) ([]uuid.UUID, error)
	// After returns up to limit deletions after a cursor, in order. errs.FailedPrecondition (CURSOR_AHEAD).
	After(ctx context.Context, cursor int64, limit int) ([]Deleted, error)
	// Find returns those of users who were deleted.
	Find(ctx context.Context, users []uuid.UUID) ([]Deleted, error)
	// Report records that the calling service account has erased all up to a cursor. errs.FailedPrecondition
	// (CURSOR_AHEAD), and what package authority refuses.
	Report(ctx context.Context, cursor int64) error
	// Get returns the deletion of a user, planned or done; errs.NotFound.
	Get(ctx context.Context, user uuid.UUID) (Deletion, error)
	// List returns deletions that were done, newest first.
	List(ctx context.Context, p Page) ([]Deletion, error)
}

// Service applies the rules.
type Service struct {
	store Store
	texts *mail.Texts
	now   func() time.Time
}

// NewService returns a Service over a store. Mails are made of texts.
func NewService(s Store, texts *mail.Texts, now func() time.Time) *Service {
	return &Service{store: s, texts: texts, now: now}
}

// After returns up to limit deletions after a cursor, and the cursor after them. errs.FailedPrecondition
// (CURSOR_AHEAD).
func (s *Service) After(ctx context.Context, cursor int64, limit int) (list []Deleted, next int64, err error) {
	if list, err = s.store.After(ctx, cursor, limit); err != nil || len(list) == 0 {
		return nil, cursor, err
	}
	return list, list[len(list)-1].Cursor, nil
}

// Find returns those of users who were deleted.
func (s *Service) Find(ctx context.Context, users []uuid.UUID) ([]Deleted, error) {
	return s.store.Find(ctx, users)
}

// Report records that the caller has erased all up to a cursor. errs.PermissionDenied (SERVICE_ACCOUNT_REQUIRED),
// errs.FailedPrecondition (CURSOR_AHEAD).
func (s *Service) Report(ctx context.Context, cursor int64) error {
	if !slices.Contains(authn.CallerFrom(ctx).Methods, authn.MethodService) {
		return errs.PermissionDenied("SERVICE_ACCOUNT_REQUIRED",
			"this is for the service account of the service that has erased the data")
	}
	return s.store.Report(ctx, cursor)
}

// CursorAhead is the error of a cursor that no deletion has: errs.FailedPrecondition (CURSOR_AHEAD).
func CursorAhead() error {
	return errs.FailedPrecondition("CURSOR_AHEAD",
		"auth has no deletion with this cursor: it was restored from a backup, or is another deployment; "+
			"begin again with 0")
}

// Get returns the deletion of a user, planned or done; errs.NotFound.
func (s *Service) Get(ctx context.Context, user uuid.UUID) (Deletion, error) {
	return s.store.Get(ctx, user)
}

// List returns deletions that were done, newest first.
func (s *Service) List(ctx context.Context, p Page) ([]Deletion, error) { return s.store.List(ctx, p) }

// Delete deletes an account at once, in the name of an operator. errs.NotFound, errs.FailedPrecondition (OWN_ACCOUNT,
// LAST_ADMIN), errs.PermissionDenied (PERMISSION_NOT_HELD).
func (s *Service) Delete(ctx context.Context, actor, user uuid.UUID) (Deletion, error) {
	farewell, err := s.texts.Mail(mail.AccountDeleted, mail.Data{At: s.now()})
	if err != nil {
		return Deletion{}, err
	}
	err = s.store.Change(ctx, user, account.Include{Roles: true, Admins: true},
		func(state account.State, _ time.Time) (account.Changes, error) {
			if actor == state.ID {
				return account.Changes{}, errs.FailedPrecondition("OWN_ACCOUNT",
					"nobody deletes their own account like this: call AccountService.DeleteMe")
			}
			if err := mayChange(state); err != nil {
				return account.Changes{}, err
			}
			return account.Deleted(state, actor, farewell)
		})
	if err != nil {
		return Deletion{}, err
	}
	return s.store.Get(ctx, user)
}

// Cancel keeps an account that its owner asked to delete, in the name of an operator. errs.NotFound,
// errs.FailedPrecondition (NO_DELETION_PLANNED), errs.PermissionDenied (PERMISSION_NOT_HELD).
func (s *Service) Cancel(ctx context.Context, actor, user uuid.UUID) error {
	return s.store.Change(ctx, user, account.Include{Roles: true},
		func(state account.State, _ time.Time) (account.Changes, error) {
			if err := mayChange(state); err != nil {
				return account.Changes{}, err
			}
			if state.DeleteAt.IsZero() {
				return account.Changes{}, errs.FailedPrecondition("NO_DELETION_PLANNED",
					"the account is not about to be deleted")
			}
			return account.DeletionCancelled(state, actor), nil
		})
}

// mayChange refuses a caller who does not hold what the account may. Its state needs Roles.
func mayChange(s account.State) error { return s.Caller.Require(role.Permissions(s.Roles)...) }

// maxDue is how many accounts are read at once whose time has come.
const maxDue = 100

// DeleteDue deletes the accounts whose time to be deleted has come.
func (s *Service) DeleteDue(ctx context.Context) error {
	for {
		due, err := s.store.Due(ctx, maxDue)
		if err != nil {
			return err
		}
		for _, user := range due {
			if err := s.deleteDue(ctx, user); err != nil {
				return err
			}
		}
		if len(due) < maxDue {
			return nil
		}
	}
}

func (s *Service) deleteDue(ctx context.Context, user uuid.UUID) error {
	farewell, err := s.texts.Mail(mail.AccountDeleted, mail.Data{At: s.now()})
	if err != nil {
		return err
	}
	err = s.store.Change(ctx, user, account.Include{Admins: true},
		func(state account.State, now time.Time) (account.Changes, error) {
			if state.DeleteAt.IsZero() || state.DeleteAt.After(now) { // cancelled meanwhile
				return account.Changes{}, nil
			}
			return account.Deleted(state, uuid.Nil, farewell)
		})
	if errs.Is(err, errs.KindNotFound) { // deleted meanwhile
		return nil
	}
	return err
}
