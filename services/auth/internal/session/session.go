// Package session signs users in and keeps them signed in.
//
// A session is a family of refresh tokens (RFC 9700, section 4.14), one row that is locked for every change. It
// promises: callers that present one token within ten seconds get the identical newest successor, so two tabs neither
// fork the session nor end it; an answer that was lost can be requested again for a minute while its successor is
// unused; any other second use of a token revokes the family. These times are measured by the database's clock.
//
// Limits: revoking a session ends its refreshing; its access token is accepted until it expires, or until a verifier
// hears of the revocation.
package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/authority"
	"github.com/purserhq/purser/services/auth/internal/device"
	"github.com/purserhq/purser/services/auth/internal/role"
)

// Policy has the lifetimes of sessions and their tokens.
type Policy struct {
	Access   time.Duration `env:"ACCESS_TTL" envDefault:"15m"`
	Refresh  time.Duration `env:"REFRESH_TTL" envDefault:"168h"`    // of one refresh token
	Absolute time.Duration `env:"SESSION_TTL" envDefault:"720h"`    // of the family
	Recovery time.Duration `env:"REFRESH_RECOVERY" envDefault:"1m"` // in which a lost answer can be requested again
}

// sharedUseWindow is how long after its first use a refresh token may be used again by callers that share it.
const sharedUseWindow = 10 * time.Second

// Recoverable returns the maximum time after the use of a token for which its successor is stored.
func (p Policy) Recoverable() time.Duration { return max(p.Recovery, sharedUseWindow) }

// Tokens are an access token and the refresh token that renews it.
type Tokens struct {
	Access           string
	AccessExpiresAt  time.Time
	Refresh          string
	RefreshExpiresAt time.Time
	// Device is the device token (package device) of a sign-in; empty otherwise.
	Device string
}

// Family is a session as stored.
type Family struct {
	ID               uuid.UUID
	UserID           uuid.UUID
	CreatedAt        time.Time
	ExpiresAt        time.Time
	Current          Hash
	CurrentExpiresAt time.Time
	// Used are the tokens whose successors can be recovered, oldest first.
	Used         []Used
	RevokedAt    *time.Time
	RevokeReason string
	// LastUsedAt is when Client began or refreshed it last.
	LastUsedAt time.Time
	Client     audit.Client
	// Methods are how the user was authenticated (RFC 8176), AuthTime when that was last.
	Methods  []string
	AuthTime time.Time
	// DeviceID is the device that it was started on; zero when that is not known any more.
	DeviceID uuid.UUID
}

// Used is a token that was exchanged for a successor.
type Used struct {
	Hash Hash
	At   time.Time
	// Successor is encrypted under a key that is derived from the used token.
	Successor []byte
}

// Change decides what to make of a locked family of a user with this access state, and which event to record, none if
// it has no type. now is the database's clock, read under the lock. It may run more than once, and only the last
// result is stored; when it fails, nothing is.
type Change func(f Family, access account.AccessState, now time.Time) (Family, audit.Event, error)

// Store is where sessions are stored.
type Store interface {
	// Credentials returns the id and password hash of the account with this address; a zero id and no error when there
	// is none. It runs the same statements either way.
	Credentials(ctx context.Context, email string) (id uuid.UUID, hash string, err error)
	// AccessState of a user; errs.NotFound.
	AccessState(ctx context.Context, user uuid.UUID) (account.AccessState, error)
	// Start locks a user and stores what begin makes of their present state, in one transaction. begin may run more
	// than once. errs.NotFound when there is no such user.
	Start(ctx context.Context, user uuid.UUID, v SignInContext, begin func(Owner) (NewSession, error)) error
	// KnowsDevice reports whether a device is one of the account with this address, and KnowsAddress whether one of
	// its devices has signed in from an IP address last.
	KnowsDevice(ctx context.Context, email string, d device.Device) (bool, error)
	KnowsAddress(ctx context.Context, email, ipAddress string) (bool, error)
	// Change locks the family that this refresh token is or was one of, and stores what change makes of it.
	// errs.NotFound when it is of none.
	Change(ctx context.Context, token Hash, change Change) error
	// ChangeOwn is Change for a family of this user. errs.NotFound when the user has no such family.
	ChangeOwn(ctx context.Context, user, family uuid.UUID, change Change) error
	// PasswordHash of a user, empty for one who has no password.
	PasswordHash(ctx context.Context, user uuid.UUID) (string, error)
	// Revoke ends a family of this user, and stores e unless it had ended before. errs.NotFound when the user has no
	// such family.
	Revoke(ctx context.Context, user, family uuid.UUID, reason string, e audit.Event) error
	// RevokeAll ends the families of this user except one, and stores e.
	RevokeAll(ctx context.Context, user, except uuid.UUID, reason string, e audit.Event) error
	// List returns the user's families that have not ended at now, newest first: at most limit, begun before the
	// family before unless that is zero.
	List(ctx context.Context, user, before uuid.UUID, limit int, now time.Time) ([]Family, error)
	// Find returns a family of this user.
	Find(ctx context.Context, user, family uuid.UUID) (Family, error)
}

// Signer signs access tokens; *signing.Ring is one.
type Signer interface {
	Sign(c authn.Claims, ttl time.Duration) (string, time.Time, error)
}

// PasswordChecker checks passwords; see package password.
type PasswordChecker interface {
	Matches(ctx context.Context, password, hash string) (bool, error)
	// Check is Matches, and reports whether the hash is outdated: made in another way than Hash makes it now. Then it
	// should be replaced.
	Check(ctx context.Context, password, hash string) (ok, outdated bool, err error)
	Hash(ctx context.Context, password string) (string, error)
}

// Proof is what somebody has signed in with: a password or an identity. It is checked again when the session is
// stored.
type Proof struct {
	// PasswordHash is the one that the password matched, Replacement a newer one of that password, if any.
	PasswordHash, Replacement string
	Identity                  uuid.UUID
	// LastEnd is the one at the sign-in with the identity; see Owner.
	LastEnd int64
}

// SecondFactor checks second factors.
type SecondFactor interface {
	// Check returns the methods that code proves (RFC 8176, such as "otp"); none when the user has no second factor.
	// errs.Unauthenticated: TOTP_REQUIRED when they have one and code is empty, TOTP_INVALID when it is wrong.
	Check(ctx context.Context, user uuid.UUID, code string) (methods []string, err error)
}

// Deps are what a Service depends on.
type Deps struct {
	Store     Store
	Signer    Signer
	Passwords PasswordChecker
	// SecondFactor is nil where there are no second factors.
	SecondFactor SecondFactor
	// Devices makes the tokens of devices.
	Devices *device.Keys
	// Audit records what was refused.
	Audit audit.Recorder
	Now   func() time.Time
}

// Service applies the rules of sessions.
type Service struct {
	Deps
	policy Policy
}

// NewService returns a Service.
func NewService(d Deps, p Policy) *Service { return &Service{Deps: d, policy: p} }

// Login checks a password, and code where the account has a second factor, and
// starts a session. errs.Unauthenticated (INVALID_CREDENTIALS) for an unknown
// address and a wrong password alike; otherwise as Begin.
func (s *Service) Login(ctx context.Context, email, password, code string) (Tokens, error) {
	user, hash, err := s.Store.Credentials(ctx, account.NormalEmail(email))
	if err != nil {
		return Tokens{}, err
	}
	ok, outdated, err := s.Passwords.Check(ctx, password, hash)
	if err != nil {
		return Tokens{}, err
	}
	if !ok {
		return Tokens{}, s.refused(ctx, audit.Login, user, ErrCredentials())
	}
	p := Proof{PasswordHash: hash}
	if outdated {
		// A password that has no normal form, of before, keeps its hash.
		p.Replacement, err = s.Passwords.Hash(ctx, password)
		if err != nil && !errs.Is(err, errs.KindInvalid) {
			return Tokens{}, err
		}
	}
	return s.Begin(ctx, SignIn{User: user, Methods: []string{"pwd"}, Code: code, Proof: p})
}

// ErrUnlinked is the answer to a sign-in with an identity that was unlinked meanwhile.
func ErrUnlinked() error {
	return errs.Unauthenticated("IDENTITY_UNLINKED",
		"the identity was unlinked from the account meanwhile; sign in again")
}

// ErrCredentials is the answer to a wrong password and to an unknown address alike.
func ErrCredentials() error {
	return errs.Unauthenticated("INVALID_CREDENTIALS", "the e-mail address or the password is wrong; "+
		"RequestPasswordReset mails a code for a new password")
}

// SignIn is a user who was authenticated.
type SignIn struct {
	User uuid.UUID
	// Methods of the authentication (RFC 8176), at least one.
	Methods []string
	// Code of the second factor, empty when none was given.
	Code  string
	Proof Proof
}

// Begin starts a session for an authenticated user; all ways of signing in end here. The client is that of ctx.
// errs.Unauthenticated: ACCOUNT_DISABLED, INVALID_CREDENTIALS, IDENTITY_UNLINKED, SESSION_REVOKED, or as SecondFactor.
func (s *Service) Begin(ctx context.Context, in SignIn) (Tokens, error) {
	access, err := s.Store.AccessState(ctx, in.User)
	if err != nil {
		return Tokens{}, err
	}
	if access.Disabled {
		return Tokens{}, s.refused(ctx, audit.Login, in.User, authority.ErrDisabled())
	}
	methods := in.Methods
	if s.SecondFactor != nil {
		more, err := s.SecondFactor.Check(ctx, in.User, in.Code)
		if err != nil {
			return Tokens{}, s.refused(ctx, audit.Login, in.User, err)
		}
		methods = slices.Concat(methods, more)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Tokens{}, fmt.Errorf("new session id: %w", err)
	}
	now := s.Now().UTC()
	token := NewToken()
	f := Family{
		ID: id, UserID: in.User, CreatedAt: now, ExpiresAt: now.Add(s.policy.Absolute),
		Current: token.Hash(), CurrentExpiresAt: now.Add(min(s.policy.Refresh, s.policy.Absolute)),
		LastUsedAt: now, Client: audit.ClientFrom(ctx), Methods: methods, AuthTime: now,
	}
	newDevice, err := uuid.NewV7()
	if err != nil {
		return Tokens{}, fmt.Errorf("new device id: %w", err)
	}
	// Signed before storing: a session whose tokens can't be given is not begun.
	t, err := s.tokens(f, token, access)
	if err != nil {
		return Tokens{}, err
	}
	e := audit.Event{
		Type: audit.Login, Reason: strings.Join(methods, " "), Actor: in.User, Subject: in.User, Object: id.String(),
	}
	signIn := SignInContext{Identity: in.Proof.Identity}
	if d := device.From(ctx); d.User == in.User { // and no other account's
		signIn.Device = d.ID
	}
	err = s.Store.Start(ctx, in.User, signIn, func(o Owner) (NewSession, error) {
		if err := in.Proof.check(o, access); err != nil {
			return NewSession{}, err
		}
		start := NewSession{Family: f, PasswordHash: in.Proof.Replacement, Events: []audit.Event{e}}
		if o.isNewDevice(now) {
			start.Events = append(start.Events, audit.Event{Type: audit.NewDevice, Actor: in.User, Subject: in.User,
				Object: id.String()})
		}
		start.Family.DeviceID = cmp.Or(o.Device, newDevice)
		t.Device = s.Devices.Token(device.Device{ID: start.Family.DeviceID, User: in.User})
		return start, nil
	})
	if errs.Is(err, errs.KindNotFound) { // deleted meanwhile
		err = ErrCredentials()
	}
	if err != nil {
		return Tokens{}, s.refused(ctx, audit.Login, in.User, err)
	}
	return t, nil
}

// refused records that a sign-in or step-up was refused, and returns err. It records no other errors.
func (s *Service) refused(ctx context.Context, t audit.Type, user uuid.UUID, err error) error {
	e := errs.As(err)
	if e == nil || e.Kind != errs.KindUnauthenticated {
		return err
	}
	event := audit.Event{Type: t, Outcome: audit.Refused, Reason: e.Reason, Subject: user}
	if failed := s.Audit.Record(ctx, event); failed != nil {
		return failed
	}
	return err
}

// Logout ends the caller's session.
func (s *Service) Logout(ctx context.Context, user, session uuid.UUID) error {
	err := s.Store.Revoke(ctx, user, session, "LOGOUT",
		audit.Event{Type: audit.Logout, Actor: user, Subject: user, Object: session.String()})
	if errs.Is(err, errs.KindNotFound) { // pruned: long ended
		return nil
	}
	return err
}

// LogoutAll ends every session of the caller, this one included.
func (s *Service) LogoutAll(ctx context.Context, user uuid.UUID) error {
	return s.Store.RevokeAll(ctx, user, uuid.Nil, "LOGOUT",
		audit.Event{Type: audit.SessionsRevoked, Reason: "LOGOUT", Actor: user, Subject: user})
}

// Revoke ends one of the caller's sessions. errs.NotFound when it is none of theirs.
func (s *Service) Revoke(ctx context.Context, user, session uuid.UUID) error {
	return s.Store.Revoke(ctx, user, session, "REVOKED",
		audit.Event{Type: audit.SessionRevoked, Actor: user, Subject: user, Object: session.String()})
}

// List returns the caller's sessions that have not ended, newest first: at most limit, begun before the session before
// unless that is zero.
func (s *Service) List(ctx context.Context, user, before uuid.UUID, limit int) ([]Family, error) {
	return s.Store.List(ctx, user, before, limit, s.Now())
}

// RevokeToken ends the session that a refresh token is or was one of; an unknown token is no error (RFC 7009, section
// 2.2).
func (s *Service) RevokeToken(ctx context.Context, token Token) error {
	err := s.Store.Change(ctx, token.Hash(), func(f Family, _ account.AccessState, now time.Time) (Family, audit.Event,
		error) {
		var e audit.Event
		if f.RevokedAt == nil {
			f.RevokedAt, f.RevokeReason, f.Used = &now, "TOKEN_REVOKED", nil
			e = audit.Event{Type: audit.SessionRevoked, Reason: f.RevokeReason, Subject: f.UserID,
				Object: f.ID.String()}
		}
		return f, e, nil
	})
	if errs.Is(err, errs.KindNotFound) {
		return nil
	}
	return err
}

func (s *Service) tokens(f Family, refresh Token, state account.AccessState) (Tokens, error) {
	c := authn.Claims{
		RegisteredClaims: jwt.RegisteredClaims{Subject: f.UserID.String(), ID: uuid.NewString()},
		SessionID:        f.ID.String(),
		Roles:            state.Roles,
		Permissions:      role.Permissions(state.Roles),
		Attributes:       state.Attributes,
		AMR:              f.Methods,
		AuthTime:         jwt.NewNumericDate(f.AuthTime),
	}
	access, expires, err := s.Signer.Sign(c, s.policy.Access)
	if err != nil {
		return Tokens{}, err
	}
	return Tokens{Access: access, AccessExpiresAt: expires, Refresh: string(refresh),
		RefreshExpiresAt: f.CurrentExpiresAt}, nil
}

// Validate returns all errors in p.
func (p Policy) Validate() error {
	var invalid []error
	if p.Access < time.Second || p.Access > 24*time.Hour {
		invalid = append(invalid, errors.New("PURSER_ACCESS_TTL must be 1s to 24h"))
	}
	if p.Refresh <= p.Access || p.Absolute < p.Refresh {
		invalid = append(invalid, errors.New(
			"PURSER_REFRESH_TTL must be above PURSER_ACCESS_TTL and at most PURSER_SESSION_TTL"))
	}
	if p.Recovery < 0 || p.Recovery > 10*time.Minute {
		invalid = append(invalid, errors.New("PURSER_REFRESH_RECOVERY must be 0 to 10m"))
	}
	return errors.Join(invalid...)
}
