// Package admin has the rules of what administrators may do to accounts.
//
// It promises: every change is recorded with who made it; nobody grants a role that permits more than they may
// themselves, nor disables their own account; at least one enabled account with the role admin always remains, also
// under concurrent changes; the attributes that are put into tokens are bounded.
//
// Limits: changed roles and attributes reach an account's tokens at its next sign-in or refresh; an issued token keeps
// the old ones until it expires, unless its session is ended.
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

// Account is an account as administrators see it.
type Account struct {
	account.User
	Attributes   map[string]string
	DisabledAt   time.Time // zero unless it is disabled
	SecondFactor bool
}

// Filter says which accounts to list.
type Filter struct {
	EmailPrefix string    // lower case; any when empty
	Role        string    // any when empty
	Disabled    *bool     // either when nil
	Before      uuid.UUID // created before this account; from the newest when zero
	Limit       int
}

// Store is where accounts are listed and changed; errs.NotFound for an id that nobody has.
type Store interface {
	List(ctx context.Context, f Filter) ([]Account, error)
	Find(ctx context.Context, id uuid.UUID) (Account, error)
	// Change locks an account and stores what decide returns.
	Change(ctx context.Context, id uuid.UUID, include account.Include, decide account.Decide) error
}

// Service applies the rules.
type Service struct{ store Store }

// NewService returns a Service over a store.
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

// SetRoles gives an account these roles and no others. errs.PermissionDenied (PERMISSION_NOT_HELD) for a role that
// permits what the caller may not; errs.FailedPrecondition (LAST_ADMIN).
func (s *Service) SetRoles(ctx context.Context, caller authn.Caller, id uuid.UUID, roles []string,
	endSessions bool) (Account, error) {
	for _, r := range roles {
		if !slices.Contains(role.Names(), r) {
			return Account{}, errs.Invalid("roles", fmt.Sprintf("must be of %s, %s", strings.Join(role.Names(), ", "),
				errs.Given(r)))
		}
	}
	for _, p := range role.Permissions(roles) {
		if !caller.May(p) {
			return Account{}, errs.PermissionDenied("PERMISSION_NOT_HELD", "nobody grants a permission that they "+
				"don't hold: the caller lacks "+p).With("permission", p)
		}
	}
	roles = slices.Compact(slices.Sorted(slices.Values(roles)))
	include := account.Include{Admins: !slices.Contains(roles, role.Admin)}
	err := s.store.Change(ctx, id, include, func(state account.State, _ time.Time) (account.Changes, error) {
		return setRoles(state, caller.UserID, roles, endSessions)
	})
	if err != nil {
		return Account{}, err
	}
	return s.store.Find(ctx, id)
}

// setRoles decides about an account's new roles, which are sorted. Its state needs Admins unless it is to be an admin.
func setRoles(s account.State, actor uuid.UUID, roles []string, endSessions bool) (account.Changes, error) {
	if !slices.Contains(roles, role.Admin) {
		if err := s.Admins.CheckLastAdmin(); err != nil {
			return account.Changes{}, err
		}
	}
	c := account.Changes{Roles: &roles, Events: []audit.Event{{Type: audit.RolesSet, Actor: actor, Subject: s.ID,
		Object: strings.Join(roles, " ")}}}
	if endSessions {
		c.EndSessions = &account.SessionEnd{Reason: "ROLES_CHANGED"}
	}
	return c, nil
}

var attributeName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}$`)

// Limits of an account's attributes; the bytes are of their JSON.
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
		case !attributeName.MatchString(name):
			return Account{}, errs.Invalid("attributes",
				`must have names of 1 to 32 lower-case letters, digits and "_", beginning with a letter`)
		case len(value) > maxAttributeValue || strings.ContainsFunc(value, unicode.IsControl):
			return Account{}, errs.Invalid("attributes",
				fmt.Sprintf("must have values of at most %d bytes, without control characters", maxAttributeValue))
		}
	}
	// As encoded in a token, where a "<" takes six bytes.
	if document, err := json.Marshal(attributes); err != nil || len(document) > maxAttributesBytes {
		return Account{}, errs.Invalid("attributes",
			fmt.Sprintf("must have at most %d bytes in all, as JSON", maxAttributesBytes))
	}
	if attributes == nil {
		attributes = map[string]string{}
	}
	err := s.store.Change(ctx, id, account.Include{}, func(account.State, time.Time) (account.Changes, error) {
		e := audit.Event{Type: audit.AttributesSet, Actor: actor, Subject: id}
		return account.Changes{Attributes: attributes, Events: []audit.Event{e}}, nil
	})
	if err != nil {
		return Account{}, err
	}
	return s.store.Find(ctx, id)
}

// Disable ends an account's sessions and its tokens, and keeps it from signing in. A disabled account is left as it
// is. errs.FailedPrecondition (OWN_ACCOUNT, LAST_ADMIN).
func (s *Service) Disable(ctx context.Context, actor, id uuid.UUID) error {
	if actor == id {
		return errs.FailedPrecondition("OWN_ACCOUNT", "nobody can disable their own account")
	}
	return s.store.Change(ctx, id, account.Include{Admins: true},
		func(state account.State, now time.Time) (account.Changes, error) { return disable(state, actor, now) })
}

func disable(s account.State, actor uuid.UUID, now time.Time) (account.Changes, error) {
	if !s.DisabledAt.IsZero() {
		return account.Changes{}, nil
	}
	if err := s.Admins.CheckLastAdmin(); err != nil {
		return account.Changes{}, err
	}
	return account.Changes{
		DisabledAt: &now, EndSessions: &account.SessionEnd{Reason: "ACCOUNT_DISABLED"}, RevokeTokens: true,
		Events: []audit.Event{{Type: audit.Disabled, Actor: actor, Subject: s.ID}},
	}, nil
}

// Enable lets a disabled account sign in again. An enabled account is left as it is.
func (s *Service) Enable(ctx context.Context, actor, id uuid.UUID) error {
	return s.store.Change(ctx, id, account.Include{},
		func(state account.State, _ time.Time) (account.Changes, error) { return enable(state, actor), nil })
}

func enable(s account.State, actor uuid.UUID) account.Changes {
	if s.DisabledAt.IsZero() {
		return account.Changes{}
	}
	return account.Changes{DisabledAt: new(time.Time), Events: []audit.Event{{Type: audit.Enabled, Actor: actor,
		Subject: s.ID}}}
}
