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
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/account"
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
	Client     Client
}

// Client is what is known of who holds a session.
type Client struct {
	Device  string // the user agent as it was sent, at most 200 bytes
	Address string // an IP address; an IPv6 one by its /64
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
	// Roles of a user.
	Roles(ctx context.Context, user uuid.UUID) ([]string, error)
	// Start stores a new family.
	Start(ctx context.Context, f Family) error
	// Change locks the family that ever had this refresh token and stores
	// what change makes of it and its user's roles, in one transaction; when
	// change fails, nothing. now is the database's clock. errs.NotFound when
	// none had it. change may run more than once.
	Change(ctx context.Context, token Hash, change func(f Family, roles []string, now time.Time) (Family, error)) error
	// Revoke ends a family of this user; it is no error when it ended before.
	// errs.NotFound when the user has no such family.
	Revoke(ctx context.Context, user, family uuid.UUID, reason string) error
	// RevokeAll ends the families of this user but except.
	RevokeAll(ctx context.Context, user, except uuid.UUID, reason string) error
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
}

// Service is the rules of sessions.
type Service struct {
	store    Store
	signer   Signer
	password Checker
	policy   Policy
	now      func() time.Time
}

// NewService returns the rules over a store.
func NewService(s Store, signer Signer, c Checker, p Policy, now func() time.Time) *Service {
	return &Service{store: s, signer: signer, password: c, policy: p, now: now}
}

// Login checks a password and starts a session. errs.Unauthenticated
// (INVALID_CREDENTIALS) for an unknown address and a wrong password alike.
func (s *Service) Login(ctx context.Context, email, password string, c Client) (Tokens, error) {
	user, hash, err := s.store.Credentials(ctx, account.NormalEmail(email))
	if err != nil {
		return Tokens{}, err
	}
	ok, err := s.password.Matches(ctx, password, hash)
	if err != nil {
		return Tokens{}, err
	}
	if !ok {
		return Tokens{}, errs.Unauthenticated("INVALID_CREDENTIALS", "the e-mail address or the password is wrong")
	}
	roles, err := s.store.Roles(ctx, user)
	if err != nil {
		return Tokens{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Tokens{}, fmt.Errorf("new session id: %w", err)
	}
	now := s.now().UTC()
	token := NewToken()
	f := Family{
		ID: id, UserID: user, CreatedAt: now, ExpiresAt: now.Add(s.policy.Absolute),
		Current: token.Hash(), CurrentExpiresAt: now.Add(min(s.policy.Refresh, s.policy.Absolute)),
		LastUsedAt: now, Client: c,
	}
	// Sign before storing: a session that can't be used is not begun.
	t, err := s.tokens(f, token, roles)
	if err != nil {
		return Tokens{}, err
	}
	return t, s.store.Start(ctx, f)
}

// Logout ends the caller's session.
func (s *Service) Logout(ctx context.Context, user, session uuid.UUID) error {
	err := s.store.Revoke(ctx, user, session, "LOGOUT")
	if errs.Is(err, errs.KindNotFound) { // pruned: long ended
		return nil
	}
	return err
}

// LogoutAll ends every session of the caller, this one included.
func (s *Service) LogoutAll(ctx context.Context, user uuid.UUID) error {
	return s.store.RevokeAll(ctx, user, uuid.Nil, "LOGOUT")
}

// Revoke ends one of the caller's sessions. errs.NotFound when it is not one.
func (s *Service) Revoke(ctx context.Context, user, session uuid.UUID) error {
	return s.store.Revoke(ctx, user, session, "REVOKED")
}

// List returns the caller's sessions that have not ended, newest first: at
// most limit, older than before unless that is zero.
func (s *Service) List(ctx context.Context, user, before uuid.UUID, limit int) ([]Family, error) {
	return s.store.List(ctx, user, before, limit, s.now())
}

// Alive reports whether a session of this user still runs.
func (s *Service) Alive(ctx context.Context, user, session uuid.UUID) (bool, error) {
	f, err := s.store.Find(ctx, user, session)
	if errs.Is(err, errs.KindNotFound) {
		return false, nil
	}
	return err == nil && f.RevokedAt == nil && s.now().Before(f.ExpiresAt), err
}

// RevokeToken ends the session that a refresh token is or was one of; a token
// that is not ours ends nothing (RFC 7009, section 2.2).
func (s *Service) RevokeToken(ctx context.Context, token Token) error {
	err := s.store.Change(ctx, token.Hash(), func(f Family, _ []string, now time.Time) (Family, error) {
		if f.RevokedAt == nil {
			f.RevokedAt, f.RevokeReason, f.Used = &now, "TOKEN_REVOKED", nil
		}
		return f, nil
	})
	if errs.Is(err, errs.KindNotFound) {
		return nil
	}
	return err
}

func (s *Service) tokens(f Family, refresh Token, roles []string) (Tokens, error) {
	c := authn.Claims{
		RegisteredClaims: jwt.RegisteredClaims{Subject: f.UserID.String(), ID: uuid.NewString()},
		SessionID:        f.ID.String(),
		Roles:            roles,
		Permissions:      role.Permissions(roles),
		AMR:              []string{"pwd"},
		AuthTime:         jwt.NewNumericDate(f.CreatedAt),
	}
	access, expires, err := s.signer.Sign(c, s.policy.Access)
	if err != nil {
		return Tokens{}, err
	}
	return Tokens{Access: access, AccessExpiresAt: expires, Refresh: string(refresh), RefreshExpiresAt: f.CurrentExpiresAt}, nil
}

// Validate reports every mistake in p.
func (p Policy) Validate() error {
	var mistakes []error
	if p.Access < time.Second || p.Access > 24*time.Hour {
		mistakes = append(mistakes, errors.New("PURSER_ACCESS_TTL must be 1s to 24h"))
	}
	if p.Refresh <= p.Access || p.Absolute < p.Refresh {
		mistakes = append(mistakes, errors.New("PURSER_REFRESH_TTL must be above PURSER_ACCESS_TTL and at most PURSER_SESSION_TTL"))
	}
	if p.Recovery < 0 || p.Recovery > 10*time.Minute {
		mistakes = append(mistakes, errors.New("PURSER_REFRESH_RECOVERY must be 0 to 10m"))
	}
	return errors.Join(mistakes...)
}
