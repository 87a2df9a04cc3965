// Package admin has the rules of what administrators may do to accounts.
//
// It promises: every change is recorded with who made it; what the caller may do is read in the transaction of the
// change (package authority); nobody grants a role that permits more than they may themselves, changes an account that
// may more than they may, or disables their own account; at least one enabled account with the role admin always
// remains, also under concurrent changes; the attributes that are put into tokens are bounded.
//
// Limits: new roles and attributes reach an account's tokens at its next sign-in or refresh. Where a permission is
// taken, the account's sessions and tokens end, unless the caller says otherwise.
package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/authority"
	"github.com/purserhq/purser/services/auth/internal/mail"
	"github.com/purserhq/purser/services/auth/internal/role"
)

// Account is an account as administrators see it.
type Account struct {
	account.User
	Attributes   map[string]string
	DisabledAt   time.Time // zero unless it is disabled
	InvitedAt    time.Time // zero unless an invitation is open
	SecondFactor bool
	// SecondFactorDue is when the second factor will be removed; zero unless that is pending.
	SecondFactorDue time.Time
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
	// Invite stores an account with its changes, unless check refuses it for what the caller holds. If the address has
	// an account, again decides about that one, with Roles and the RecentMails of a kind. It returns the account's id.
	Invite(ctx context.Context, i Invitation, check func(authority.Held) error, mails mail.Kind,
		again account.Decide) (uuid.UUID, error)
	// The following lock an account and check it, with its Roles, before they end something of it and record e; they
	// record nothing when it had ended before. errs.NotFound for a session or key that the account does not have.
	EndSession(ctx context.Context, user, session uuid.UUID, check Check, e audit.Event) error
	EndSessions(ctx context.Context, user uuid.UUID, check Check, e audit.Event) (ended int, err error)
	RevokeAPIKey(ctx context.Context, user, key uuid.UUID, check Check, e audit.Event) error
	// DueRemovals returns up to limit users whose second factor is to be removed by now, the longest due first.
	DueRemovals(ctx context.Context, limit int) ([]uuid.UUID, error)
}

// Check refuses a change of a locked account.
type Check func(account.State) error

// Policy of what administrators do.
type Policy struct {
	// RemovalDelay is how long a second factor stays after its removal was requested.
	RemovalDelay time.Duration
	// MailsPerHour bounds the mails of one kind to one account.
	MailsPerHour int
}

// Service applies the rules.
type Service struct {
	store  Store
	texts  *mail.Texts
	policy Policy
	now    func() time.Time
}

// NewService returns a Service over a store.
func NewService(s Store, t *mail.Texts, p Policy, now func() time.Time) *Service {
	return &Service{store: s, texts: t, policy: p, now: now}
}

// List returns accounts, newest first.
func (s *Service) List(ctx context.Context, f Filter) ([]Account, error) {
	f.EmailPrefix = account.NormalEmail(f.EmailPrefix)
	return s.store.List(ctx, f)
}

// Find returns an account; errs.NotFound.
func (s *Service) Find(ctx context.Context, id uuid.UUID) (Account, error) {
	return s.store.Find(ctx, id)
}

// SetRoles gives an account these roles and no others. endSessions says whether its sessions, and all its tokens with
// them, end; nil ends them if a permission is taken from the account. errs.PermissionDenied (PERMISSION_NOT_HELD) for
// a role, or an account, that may what the caller may not; errs.FailedPrecondition (LAST_ADMIN).
func (s *Service) SetRoles(ctx context.Context, actor, id uuid.UUID, roles []string, endSessions *bool) (Account,
	error) {
	roles, err := knownRoles(roles)
	if err != nil {
		return Account{}, err
	}
	include := account.Include{Roles: true, Admins: !slices.Contains(roles, role.Admin)}
	err = s.store.Change(ctx, id, include, func(state account.State, _ time.Time) (account.Changes, error) {
		return setRoles(state, actor, roles, endSessions)
	})
	if err != nil {
		return Account{}, err
	}
	return s.store.Find(ctx, id)
}

// knownRoles returns roles sorted and without duplicates. errs.Invalid for one that does not exist.
func knownRoles(roles []string) ([]string, error) {
	for i, r := range roles {
		if !slices.Contains(role.Names(), r) {
			return nil, errs.Invalid(fmt.Sprintf("roles[%d]", i), fmt.Sprintf("must be of %s, %s",
				strings.Join(role.Names(), ", "), errs.Given(r)))
		}
	}
	return slices.Compact(slices.Sorted(slices.Values(roles))), nil
}

// setRoles decides about an account's new roles, which are sorted. Its state needs Roles, and Admins unless the
// account is to be an admin.
func setRoles(s account.State, actor uuid.UUID, roles []string, endSessions *bool) (account.Changes, error) {
	after := role.Permissions(roles)
	if err := s.Caller.Require(after...); err != nil {
		return account.Changes{}, err
	}
	if err := cmp.Or(mayChange(s), checkProven(s, after)); err != nil {
		return account.Changes{}, err
	}
	if !slices.Contains(roles, role.Admin) {
		if err := s.Admins.CheckLastAdmin(); err != nil {
			return account.Changes{}, err
		}
	}
	c := account.Changes{Roles: &roles, Events: []audit.Event{{Type: audit.RolesSet, Actor: actor, Subject: s.ID,
		Object: strings.Join(roles, " ")}}}
	end := slices.ContainsFunc(role.Permissions(s.Roles), func(p string) bool { return !slices.Contains(after, p) })
	if endSessions != nil {
		end = *endSessions
	}
	if end {
		c.EndSessions, c.RevokeTokens = &account.SessionEnd{Reason: "ROLES_CHANGED"}, true
	}
	return c, nil
}

// checkProven refuses more permissions than registering gives to an account whose address nobody has proven: they
// would be those of whoever registered it. Nobody can sign in to an open invitation. errs.FailedPrecondition
// (EMAIL_UNVERIFIED).
func checkProven(s account.State, after []string) error {
	if !unproven(s) {
		return nil
	}
	free := role.Permissions(append([]string{role.IndividualInvestor}, s.Roles...))
	if !slices.ContainsFunc(after, func(p string) bool { return !slices.Contains(free, p) }) {
		return nil
	}
	return errUnverified("roles")
}

// unproven reports whether an account is of whoever registered an address, which nobody has proven to own.
func unproven(s account.State) bool {
	return s.Email != "" && s.VerifiedAt.IsZero() && s.InvitedAt.IsZero()
}

func errUnverified(what string) error {
	return errs.FailedPrecondition("EMAIL_UNVERIFIED", "nobody has proven to own the account's address, and the "+what+
		" would be those of whoever registered it: let its owner confirm the address (ResendVerification), "+
		"or delete the account (DeletionService.DeleteUser) and invite them (InviteUser)")
}

// mayChange refuses a caller who does not hold what the account may: whoever can rewrite or disable somebody could
// otherwise rule over those above them. Its state needs Roles.
func mayChange(s account.State) error { return s.Caller.Require(role.Permissions(s.Roles)...) }

var attributeName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}$`)

// Limits of an account's attributes; the bytes are of their JSON.
const (
	maxAttributes      = 16
	maxAttributeValue  = 128
	maxAttributesBytes = 1024
)

// SetAttributes gives an account these attributes and no others. errs.FailedPrecondition (EMAIL_UNVERIFIED) for any
// while nobody has proven the account's address: other services may decide by them.
func (s *Service) SetAttributes(ctx context.Context, actor, id uuid.UUID, attributes map[string]string) (Account,
	error) {
	attributes, err := checkedAttributes(attributes)
	if err != nil {
		return Account{}, err
	}
	include := account.Include{Roles: true}
	err = s.store.Change(ctx, id, include, func(state account.State, _ time.Time) (account.Changes, error) {
		e := audit.Event{Type: audit.AttributesSet, Actor: actor, Subject: id}
		if err := mayChange(state); err != nil {
			return account.Changes{}, err
		}
		if len(attributes) > 0 && unproven(state) {
			return account.Changes{}, errUnverified("attributes")
		}
		return account.Changes{Attributes: attributes, Events: []audit.Event{e}}, nil
	})
	if err != nil {
		return Account{}, err
	}
	return s.store.Find(ctx, id)
}

// checkedAttributes returns attributes, never nil. errs.Invalid for ones that break a rule.
func checkedAttributes(attributes map[string]string) (map[string]string, error) {
	if len(attributes) > maxAttributes {
		return nil, errs.Invalid("attributes", fmt.Sprintf("must be at most %d", maxAttributes))
	}
	for name, value := range attributes {
		switch {
		case !attributeName.MatchString(name):
			return nil, errs.Invalid("attributes",
				`must have names of 1 to 32 lower-case letters, digits and "_", beginning with a letter`)
		case len(value) > maxAttributeValue || strings.ContainsFunc(value, unicode.IsControl):
			return nil, errs.Invalid("attributes",
				fmt.Sprintf("must have values of at most %d bytes, without control characters", maxAttributeValue))
		}
	}
	// As encoded in a token, where a "<" takes six bytes.
	if document, err := json.Marshal(attributes); err != nil || len(document) > maxAttributesBytes {
		return nil, errs.Invalid("attributes",
			fmt.Sprintf("must have at most %d bytes in all, as JSON", maxAttributesBytes))
	}
	if attributes == nil {
		attributes = map[string]string{}
	}
	return attributes, nil
}

// Disable ends an account's sessions and its tokens, and keeps it from signing in. A disabled account is left as it
// is. errs.FailedPrecondition (OWN_ACCOUNT, LAST_ADMIN).
func (s *Service) Disable(ctx context.Context, actor, id uuid.UUID) error {
	return s.store.Change(ctx, id, account.Include{Roles: true, Admins: true},
		func(state account.State, now time.Time) (account.Changes, error) { return disable(state, actor, now) })
}

func disable(s account.State, actor uuid.UUID, now time.Time) (account.Changes, error) {
	if actor == s.ID {
		return account.Changes{}, errs.FailedPrecondition("OWN_ACCOUNT", "nobody can disable their own account")
	}
	if err := cmp.Or(mayChange(s), checkNoDeletion(s)); err != nil || !s.DisabledAt.IsZero() {
		return account.Changes{}, err
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
	return s.store.Change(ctx, id, account.Include{Roles: true},
		func(state account.State, _ time.Time) (account.Changes, error) { return enable(state, actor) })
}

func enable(s account.State, actor uuid.UUID) (account.Changes, error) {
	if err := cmp.Or(mayChange(s), checkNoDeletion(s)); err != nil || s.DisabledAt.IsZero() {
		return account.Changes{}, err
	}
	return account.Changes{DisabledAt: new(time.Time), Events: []audit.Event{{Type: audit.Enabled, Actor: actor,
		Subject: s.ID}}}, nil
}

// checkNoDeletion refuses to enable or disable an account that is about to be deleted: it is disabled until then.
// errs.FailedPrecondition (DELETION_PLANNED).
func checkNoDeletion(s account.State) error {
	if s.DeleteAt.IsZero() {
		return nil
	}
	return errs.FailedPrecondition("DELETION_PLANNED", "the account is disabled until it is deleted at "+
		s.DeleteAt.UTC().Format(time.RFC3339)+", as its owner asked for: call DeletionService.CancelUserDeletion or "+
		"DeleteUser")
}
