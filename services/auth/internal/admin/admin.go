// Package admin is what those who run Purser may do to accounts.
//
// It promises: every change is recorded with who made it; nobody gives a role
// that permits more than they may themselves, nor disables their own account; one enabled account with the
// role admin is always left, also of
// changes made at once; what rides in tokens stays small.
//
// Limits: roles and attributes are in an account's tokens from its next sign-in
// or refresh on; a token that is out keeps the old ones until it ends, unless
// its session is ended.
package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/role"
)

// Account is an account as those who run Purser see it.
type Account struct {
	account.User
	Attributes   map[string]string
	DisabledAt   time.Time // zero unless it is disabled
	SecondFactor bool
}

// Filter says which accounts a list has.
type Filter struct {
	EmailPrefix string    // lower case; any when empty
	Role        string    // any when empty
	Disabled    *bool     // either when nil
	Before      uuid.UUID // older than this one, from the newest when zero
	Limit       int
}

// ErrLastAdmin is the answer to what would leave nobody to run Purser.
func ErrLastAdmin() error {
	return errs.FailedPrecondition("LAST_ADMIN",
		"it is the last account with the role admin; give that to another first")
}

// Store is where accounts are changed. Each change stores its event with it;
// errs.NotFound for an id that nobody has.
type Store interface {
	List(ctx context.Context, f Filter) ([]Account, error)
	Find(ctx context.Context, id uuid.UUID) (Account, error)
	// SetRoles and Disable answer ErrLastAdmin rather than leave no enabled
	// admin.
	SetRoles(ctx context.Context, id uuid.UUID, roles []string, endSessions bool, e audit.Event) error
	SetAttributes(ctx context.Context, id uuid.UUID, attributes map[string]string, e audit.Event) error
	// Disable ends the account's sessions too. What is as wished already is
	// left as it is, without an event.
	Disable(ctx context.Context, id uuid.UUID, e audit.Event) error
	Enable(ctx context.Context, id uuid.UUID, e audit.Event) error
}

// Service is the rules.
type Service struct{ store Store }

// NewService returns the rules over a store.
func NewService(s Store) *Service { return &Service{store: s} }

// List returns accounts, newest first.
func (s *Service) List(ctx context.Context, f Filter) ([]Account, error) {
	f.EmailPrefix = account.NormalEmail(f.EmailPrefix)
	return s.store.List(ctx, f)
}

// Find returns an account; errs.NotFound.
func (s *Service) Find(ctx context.Context, id uuid.UUID) (Account, error) {
	return s.store.Find(ctx, id)
}

// SetRoles gives an account these roles and no others. errs.PermissionDenied
// (PERMISSION_NOT_HELD) for a role that permits what the caller may not.
func (s *Service) SetRoles(ctx context.Context, caller authn.Caller, id uuid.UUID, roles []string,
	endSessions bool) (Account, error) {
	for _, r := range roles {
		if !slices.Contains(role.Names(), r) {
			return Account{}, errs.Invalid("roles", "must be of "+strings.Join(role.Names(), ", "))
		}
	}
	for _, p := range role.Permissions(roles) {
		if !caller.May(p) {
			return Account{}, errs.PermissionDenied("PERMISSION_NOT_HELD", "the caller doesn't hold "+p)
		}
	}
	roles = slices.Compact(slices.Sorted(slices.Values(roles)))
	err := s.store.SetRoles(ctx, id, roles, endSessions,
		audit.Event{Type: audit.RolesSet, Actor: caller.UserID, Subject: id, Object: strings.Join(roles, " ")})
	if err != nil {
		return Account{}, err
	}
	return s.store.Find(ctx, id)
}

var goodAttribute = regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}$`)

// Bounds on an account's attributes.
const (
	maxAttributes      = 16
	maxAttributeValue  = 128
	maxAttributesBytes = 1024
)

// SetAttributes gives an account these attributes and no others.
func (s *Service) SetAttributes(ctx context.Context, actor, id uuid.UUID, attributes map[string]string) (Account,
	error) {
	if len(attributes) > maxAttributes {
		return Account{}, errs.Invalid("attributes", fmt.Sprintf("must be at most %d", maxAttributes))
	}
	for name, value := range attributes {
		switch {
		case !goodAttribute.MatchString(name):
			return Account{}, errs.Invalid("attributes",
				`must have names of 1 to 32 lower-case letters, digits and "_", beginning with a letter`)
		case len(value) > maxAttributeValue || strings.ContainsFunc(value, unicode.IsControl):
			return Account{}, errs.Invalid("attributes",
				fmt.Sprintf("must have values of at most %d bytes, without control characters", maxAttributeValue))
		}
	}
	// As they stand in a token, where a "<" takes six bytes.
	if document, err := json.Marshal(attributes); err != nil || len(document) > maxAttributesBytes {
		return Account{}, errs.Invalid("attributes",
			fmt.Sprintf("must have at most %d bytes in all, as JSON", maxAttributesBytes))
	}
	if attributes == nil {
		attributes = map[string]string{}
	}
	err := s.store.SetAttributes(ctx, id, attributes,
		audit.Event{Type: audit.AttributesSet, Actor: actor, Subject: id})
	if err != nil {
		return Account{}, err
	}
	return s.store.Find(ctx, id)
}

// Disable ends an account's sessions and keeps it from signing in.
func (s *Service) Disable(ctx context.Context, actor, id uuid.UUID) error {
	if actor == id {
		return errs.FailedPrecondition("OWN_ACCOUNT", "nobody can disable their own account")
	}
	return s.store.Disable(ctx, id, audit.Event{Type: audit.Disabled, Actor: actor, Subject: id})
}

// Enable lets a disabled account sign in again.
func (s *Service) Enable(ctx context.Context, actor, id uuid.UUID) error {
	return s.store.Enable(ctx, id, audit.Event{Type: audit.Enabled, Actor: actor, Subject: id})
}
