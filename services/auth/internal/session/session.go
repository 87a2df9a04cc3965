// Package session signs users in and keeps them signed in.
//
// A session is a family of refresh tokens, one row, locked for every change.
// It promises: callers that present one token within ten seconds get the
// identical newest successor, so two tabs never fork or log out; an answer that
// was lost can be asked for again for a minute while its successor is unused;
// any other second use of a token revokes the family (RFC 9700, section 4.14).
// These times are the database's, whichever replica is asked.
//
// Limits: revoking ends the refreshing; an access token that is out stays
// valid until it expires.
package session

import (
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
	"github.com/purserhq/purser/services/auth/internal/role"
)

// Policy is how long things last.
type Policy struct {
	Access   time.Duration `env:"ACCESS_TTL" envDefault:"15m"`
	Refresh  time.Duration `env:"REFRESH_TTL" envDefault:"168h"`    // sliding
	Absolute time.Duration `env:"SESSION_TTL" envDefault:"720h"`    // of the family
	Recovery time.Duration `env:"REFRESH_RECOVERY" envDefault:"1m"` // of a lost answer
}

// together is how long callers that share a token may use it side by side.
const together = 10 * time.Second

// Recoverable is how long after its use a token's successor is kept at most.
func (p Policy) Recoverable() time.Duration { return max(p.Recovery, together) }

// Tokens is what a session is held with.
type Tokens struct {
	Access           string
	AccessExpiresAt  time.Time
	Refresh          string
	RefreshExpiresAt time.Time
}

// Family is a session as stored.
type Family struct {
	ID               uuid.UUID
	UserID           uuid.UUID
	CreatedAt        time.Time
	ExpiresAt        time.Time
	Current          Hash
	CurrentExpiresAt time.Time
	// Used are the tokens whose successors can still be recovered, oldest
	// first.
	Used         []Used
	RevokedAt    *time.Time
	RevokeReason string
	// LastUsedAt is when it was begun or refreshed last, by Client.
	LastUsedAt time.Time
	Client     audit.Client
	// Methods are how it was signed in to (RFC 8176), AuthTime when that was
	// proven last.
	Methods  []string
	AuthTime time.Time
}

// Used is a token that was exchanged for a successor.
type Used struct {
	Hash Hash
	At   time.Time
	// Successor is readable with the token alone.
	Successor []byte
}

// Store is where sessions are kept.
type Store interface {
	// Credentials returns the id and password hash of the account with this
	// address, in as many statements whether there is one or not; a zero id
	// and no error when there is none.
	Credentials(ctx context.Context, email string) (id uuid.UUID, hash string, err error)
	// Standing of a user; errs.NotFound.
	Standing(ctx context.Context, user uuid.UUID) (account.Standing, error)
	// Start stores a new family, and e with it, if its user may sign in and has
	// what p proves still; errs.Unauthenticated (ACCOUNT_DISABLED,
	// INVALID_CREDENTIALS, IDENTITY_UNLINKED) otherwise. errs.Unavailable
	// (TRY_AGAIN) when their roles or attributes are not those of is any more.
	Start(ctx context.Context, f Family, is account.Standing, p Proof, e audit.Event) error
	// Change locks the family that ever had this refresh token and stores
	// what change makes of it and its user's standing, and the event unless it
	// has no type, in one transaction; when change fails, nothing. now is the
	// database's clock. errs.NotFound when none had it. change may run more
	// than once.
	Change(ctx context.Context, token Hash, change func(f Family, s account.Standing, now time.Time) (Family,
		audit.Event, error)) error
	// ChangeOwn is Change for a family of this user. errs.NotFound when it is
	// not one.
	ChangeOwn(ctx context.Context, user, family uuid.UUID,
		change func(f Family, s account.Standing, now time.Time) (Family, audit.Event, error)) error
	// PasswordHash of a user, empty for one who has no password.
	PasswordHash(ctx context.Context, user uuid.UUID) (string, error)
	// Revoke ends a family of this user, and stores e when it had not ended
	// before. errs.NotFound when the user has no such family.
	Revoke(ctx context.Context, user, family uuid.UUID, reason string, e audit.Event) error
	// RevokeAll ends the families of this user but except, and stores e.
	RevokeAll(ctx context.Context, user, except uuid.UUID, reason string, e audit.Event) error
	// List returns the user's families that have not ended at now, newest
	// first: at most limit, older than before unless that is zero.
	List(ctx context.Context, user, before uuid.UUID, limit int, now time.Time) ([]Family, error)
	// Find returns a family of this user.
	Find(ctx context.Context, user, family uuid.UUID) (Family, error)
}

// Signer signs access tokens; *signing.Ring is one.
type Signer interface {
	Sign(c authn.Claims, ttl time.Duration) (string, time.Time, error)
}

// Checker checks passwords; see package password.
type Checker interface {
	Matches(ctx context.Context, password, hash string) (bool, error)
	// NeedsRehash reports whether a hash is to be replaced when its password is at
	// hand, which Hash does.
	NeedsRehash(hash string) bool
	Hash(ctx context.Context, password string) (string, error)
}

// Proof is what a session is begun with, which has to hold still when it is
// stored: a password, or an identity elsewhere.
type Proof struct {
	// Hash that the password matched, and what to keep in its place unless
	// that is empty.
	Hash, Replacement string
	Identity          uuid.UUID
}

// SecondFactor checks what a user has beside their first way of signing in.
type SecondFactor interface {
	// Check returns what code proves (RFC 8176, such as "otp"); nothing when
	// the user has no second factor. errs.Unauthenticated: TOTP_REQUIRED when
	// they have one and code is empty, TOTP_INVALID when it is wrong.
	Check(ctx context.Context, user uuid.UUID, code string) (methods []string, err error)
}

// Deps are what the rules stand on.
type Deps struct {
	Store     Store
	Signer    Signer
	Passwords Checker
	// Factor is nil where there are no second factors.
	Factor SecondFactor
	// Audit keeps what was refused.
	Audit audit.Recorder
	Now   func() time.Time
}

// Service is the rules of sessions.
type Service struct {
	Deps
	policy Policy
}

// NewService returns the rules.
func NewService(d Deps, p Policy) *Service { return &Service{Deps: d, policy: p} }

// Login checks a password, and code where the account has a second factor, and
// starts a session. errs.Unauthenticated (INVALID_CREDENTIALS) for an unknown
// address and a wrong password alike; otherwise as Begin.
func (s *Service) Login(ctx context.Context, email, password, code string) (Tokens, error) {
	user, hash, err := s.Store.Credentials(ctx, account.NormalEmail(email))
	if err != nil {
		return Tokens{}, err
	}
	ok, err := s.Passwords.Matches(ctx, password, hash)
	if err != nil {
		return Tokens{}, err
	}
	if !ok {
		return Tokens{}, s.refused(ctx, audit.Login, user, ErrCredentials())
	}
	p := Proof{Hash: hash}
	if s.Passwords.NeedsRehash(hash) {
		if p.Replacement, err = s.Passwords.Hash(ctx, password); err != nil {
			return Tokens{}, err
		}
	}
	return s.Begin(ctx, SignIn{User: user, Methods: []string{"pwd"}, Code: code, Proof: p})
}

// ErrUnlinked is the answer to an identity that its account has no more.
func ErrUnlinked() error {
	return errs.Unauthenticated("IDENTITY_UNLINKED",
		"the identity was taken from the account meanwhile; sign in again")
}

// ErrCredentials is the answer to an unknown address and a wrong password.
func ErrCredentials() error {
	return errs.Unauthenticated("INVALID_CREDENTIALS", "the e-mail address or the password is wrong")
}

// SignIn is who has proven to be whom.
type SignIn struct {
	User uuid.UUID
	// Methods that proved it (RFC 8176): at least one.
	Methods []string
	// Code of the second factor, empty when none was given.
	Code string
	// Proof is what they have proven it with.
	Proof Proof
}

// Begin starts a session for who has proven to be a user: every way of signing
// in ends here. errs.Unauthenticated: ACCOUNT_DISABLED, IDENTITY_UNLINKED, or as
// SecondFactor.
// Where it comes from is that of the context.
func (s *Service) Begin(ctx context.Context, in SignIn) (Tokens, error) {
	standing, err := s.Store.Standing(ctx, in.User)
	if err != nil {
		return Tokens{}, err
	}
	if standing.Disabled {
		return Tokens{}, s.refused(ctx, audit.Login, in.User, account.ErrDisabled())
	}
	methods := in.Methods
	if s.Factor != nil {
		more, err := s.Factor.Check(ctx, in.User, in.Code)
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
	// Sign before storing: a session that can't be used is not begun.
	t, err := s.tokens(f, token, standing)
	if err != nil {
		return Tokens{}, err
	}
	err = s.Store.Start(ctx, f, standing, in.Proof, audit.Event{
		Type: audit.Login, Reason: strings.Join(methods, " "), Actor: in.User, Subject: in.User, Object: id.String(),
	})
	if err != nil {
		return Tokens{}, s.refused(ctx, audit.Login, in.User, err)
	}
	return t, nil
}

// refused records that a sign-in or step-up was refused, for a reason of ours,
// and returns that.
func (s *Service) refused(ctx context.Context, what audit.Type, user uuid.UUID, why error) error {
	e := errs.As(why)
	if e == nil || e.Kind != errs.KindUnauthenticated {
		return why
	}
	if err := s.Audit.Record(ctx, audit.Event{Type: what, Outcome: audit.Refused, Reason: e.Reason,
		Subject: user}); err != nil {
		return err
	}
	return why
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

// Revoke ends one of the caller's sessions. errs.NotFound when it is not one.
func (s *Service) Revoke(ctx context.Context, user, session uuid.UUID) error {
	return s.Store.Revoke(ctx, user, session, "REVOKED",
		audit.Event{Type: audit.SessionRevoked, Actor: user, Subject: user, Object: session.String()})
}

// List returns the caller's sessions that have not ended, newest first: at
// most limit, older than before unless that is zero.
func (s *Service) List(ctx context.Context, user, before uuid.UUID, limit int) ([]Family, error) {
	return s.Store.List(ctx, user, before, limit, s.Now())
}

// Alive reports whether a session of this user still runs.
func (s *Service) Alive(ctx context.Context, user, session uuid.UUID) (bool, error) {
	f, err := s.Store.Find(ctx, user, session)
	if errs.Is(err, errs.KindNotFound) {
		return false, nil
	}
	return err == nil && f.RevokedAt == nil && s.Now().Before(f.ExpiresAt), err
}

// RevokeToken ends the session that a refresh token is or was one of; a token
// that is not ours ends nothing (RFC 7009, section 2.2).
func (s *Service) RevokeToken(ctx context.Context, token Token) error {
	err := s.Store.Change(ctx, token.Hash(), func(f Family, _ account.Standing, now time.Time) (Family, audit.Event,
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

func (s *Service) tokens(f Family, refresh Token, standing account.Standing) (Tokens, error) {
	c := authn.Claims{
		RegisteredClaims: jwt.RegisteredClaims{Subject: f.UserID.String(), ID: uuid.NewString()},
		SessionID:        f.ID.String(),
		Roles:            standing.Roles,
		Permissions:      role.Permissions(standing.Roles),
		Attributes:       standing.Attributes,
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

// Validate reports every mistake in p.
func (p Policy) Validate() error {
	var mistakes []error
	if p.Access < time.Second || p.Access > 24*time.Hour {
		mistakes = append(mistakes, errors.New("PURSER_ACCESS_TTL must be 1s to 24h"))
	}
	if p.Refresh <= p.Access || p.Absolute < p.Refresh {
		mistakes = append(mistakes, errors.New(
			"PURSER_REFRESH_TTL must be above PURSER_ACCESS_TTL and at most PURSER_SESSION_TTL"))
	}
	if p.Recovery < 0 || p.Recovery > 10*time.Minute {
		mistakes = append(mistakes, errors.New("PURSER_REFRESH_RECOVERY must be 0 to 10m"))
	}
	return errors.Join(mistakes...)
}
