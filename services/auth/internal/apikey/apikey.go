// Package apikey gives programs keys to sign in with in their owner's name.
//
// It promises: a key is shown once and kept as a hash; it gives no more than
// its scopes and no more than its owner holds at the moment, from no other
// address than it allows, for five minutes at a time.
//
// Limits: revoking a key leaves the tokens that it was exchanged for, until
// they expire.
package apikey

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/role"
)

// TokenTTL is how long a token lives that a key was exchanged for.
const TokenTTL = 5 * time.Minute

const (
	// Method is the amr of tokens that a key was exchanged for.
	Method = authn.MethodAPIKey
	// prefix lets a key that leaked be found by who scans for it.
	prefix       = "purser_key_"
	defaultLife  = 90 * 24 * time.Hour
	longestLife  = 366 * 24 * time.Hour
	mostOfAnUser = 50
)

// Hash is the SHA-256 of a key. A key is random, so a fast hash is enough.
type Hash [sha256.Size]byte

// Key is a key as stored.
type Key struct {
	ID         uuid.UUID
	UserID     uuid.UUID
	Name       string
	Hash       Hash
	Scopes     []string
	Allowed    []netip.Prefix // from anywhere when empty
	CreatedAt  time.Time
	ExpiresAt  time.Time
	LastUsedAt *time.Time
	RevokedAt  *time.Time
}

// Store is where keys are kept.
type Store interface {
	// Create stores a key, and e with it, unless its user has most already, and
	// reports whether it did.
	Create(ctx context.Context, k Key, most int, e audit.Event) (bool, error)
	// List returns the user's keys, newest first.
	List(ctx context.Context, user uuid.UUID) ([]Key, error)
	// Revoke ends a key of this user, and stores e when it had not ended
	// before. errs.NotFound when the user has no such key.
	Revoke(ctx context.Context, user, id uuid.UUID, at time.Time, e audit.Event) error
	// ByHash returns a key and its owner's standing; errs.NotFound.
	ByHash(ctx context.Context, h Hash) (Key, account.Standing, error)
	// Used notes that a key was used.
	Used(ctx context.Context, id uuid.UUID, at time.Time) error
	// Alive reports whether a key of this user can still be used at now.
	Alive(ctx context.Context, user, id uuid.UUID, now time.Time) (bool, error)
}

// Signer signs access tokens; *signing.Ring is one.
type Signer interface {
	Sign(c authn.Claims, ttl time.Duration) (string, time.Time, error)
}

// Service is the rules of API keys.
type Service struct {
	store  Store
	signer Signer
	audit  audit.Recorder
	now    func() time.Time
}

// NewService returns the rules over a store.
func NewService(s Store, signer Signer, a audit.Recorder, now func() time.Time) *Service {
	return &Service{store: s, signer: signer, audit: a, now: now}
}

// Wish is what a key is to be; a zero ExpiresAt takes the default.
type Wish struct {
	Name      string
	Scopes    []string
	Allowed   []string // prefixes
	ExpiresAt time.Time
}

// Create makes a key for the caller and returns it; it can't be read again.
func (s *Service) Create(ctx context.Context, caller authn.Caller, w Wish) (string, Key, error) {
	k, err := s.plan(caller, w)
	if err != nil {
		return "", Key{}, err
	}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails: crypto/rand ends the program instead
	key := prefix + base64.RawURLEncoding.EncodeToString(secret)
	k.Hash = sha256.Sum256([]byte(key))
	created, err := s.store.Create(ctx, k, mostOfAnUser,
		audit.Event{Type: audit.APIKeyCreated, Actor: k.UserID, Subject: k.UserID, Object: k.ID.String()})
	if err != nil {
		return "", Key{}, err
	}
	if !created {
		return "", Key{}, errs.FailedPrecondition("TOO_MANY_API_KEYS",
			fmt.Sprintf("a user has at most %d keys that can be used; revoke one first", mostOfAnUser))
	}
	return key, k, nil
}

func (s *Service) plan(caller authn.Caller, w Wish) (Key, error) {
	name := strings.TrimSpace(w.Name)
	if name == "" || strings.ContainsFunc(name, unicode.IsControl) {
		return Key{}, errs.Invalid("name", "must have a character that can be seen, and none that controls")
	}
	for _, scope := range w.Scopes {
		if !caller.May(scope) {
			return Key{}, errs.PermissionDenied("SCOPE_NOT_HELD", "the caller doesn't hold "+scope)
		}
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Key{}, fmt.Errorf("new key id: %w", err)
	}
	now := s.now().UTC()
	k := Key{ID: id, UserID: caller.UserID, Name: name, Scopes: w.Scopes, Allowed: []netip.Prefix{}, CreatedAt: now,
		ExpiresAt: w.ExpiresAt.UTC()}
	switch {
	case w.ExpiresAt.IsZero():
		k.ExpiresAt = now.Add(defaultLife)
	case !k.ExpiresAt.After(now) || k.ExpiresAt.After(now.Add(longestLife)):
		return Key{}, errs.Invalid("expire_time", "must be in the future, and at most a year from now")
	}
	for _, text := range w.Allowed {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return Key{}, errs.Invalid("allowed_cidrs", "must be prefixes such as 192.0.2.0/24")
		}
		k.Allowed = append(k.Allowed, p.Masked())
	}
	return k, nil
}

// List returns the caller's keys, newest first.
func (s *Service) List(ctx context.Context, user uuid.UUID) ([]Key, error) {
	return s.store.List(ctx, user)
}

// Revoke ends one of the caller's keys. errs.NotFound when it is not one.
func (s *Service) Revoke(ctx context.Context, user, id uuid.UUID) error {
	return s.store.Revoke(ctx, user, id, s.now().UTC(),
		audit.Event{Type: audit.APIKeyRevoked, Actor: user, Subject: user, Object: id.String()})
}

// Exchange gives an access token for a key that is used from an address.
// errs.Unauthenticated (API_KEY_INVALID) whatever is wrong with it.
func (s *Service) Exchange(ctx context.Context, key string, from netip.Addr) (token string, expires time.Time,
	err error) {
	invalid := errs.Unauthenticated("API_KEY_INVALID", "the key is not valid, or not from this address")
	k, standing, err := s.store.ByHash(ctx, sha256.Sum256([]byte(key)))
	if errs.Is(err, errs.KindNotFound) {
		return "", time.Time{}, s.refused(ctx, Key{}, invalid)
	}
	if err != nil {
		return "", time.Time{}, err
	}
	now := s.now().UTC()
	if k.RevokedAt != nil || !now.Before(k.ExpiresAt) || !k.allows(from) || standing.Disabled {
		return "", time.Time{}, s.refused(ctx, k, invalid)
	}
	held := role.Permissions(standing.Roles)
	scopes := slices.DeleteFunc(slices.Clone(k.Scopes),
		func(scope string) bool { return !slices.Contains(held, scope) })
	token, expires, err = s.signer.Sign(authn.Claims{
		RegisteredClaims: jwt.RegisteredClaims{Subject: k.UserID.String(), ID: uuid.NewString()},
		SessionID:        k.ID.String(),
		Permissions:      scopes,
		Attributes:       standing.Attributes,
		AMR:              []string{Method},
		AuthTime:         jwt.NewNumericDate(now),
	}, min(TokenTTL, k.ExpiresAt.Sub(now)))
	if err != nil {
		return "", time.Time{}, err
	}
	if k.LastUsedAt == nil || now.Sub(*k.LastUsedAt) >= time.Minute {
		err = s.store.Used(ctx, k.ID, now)
	}
	return token, expires, err
}

// refused records that a key was not taken, and returns why.
func (s *Service) refused(ctx context.Context, k Key, why *errs.Error) error {
	e := audit.Event{Type: audit.APIKeyRefused, Outcome: audit.Refused, Reason: why.Reason, Subject: k.UserID}
	if k.ID != uuid.Nil {
		e.Object = k.ID.String()
	}
	if err := s.audit.Record(ctx, e); err != nil {
		return err
	}
	return why
}

// Alive reports whether a key of this user can still be used.
func (s *Service) Alive(ctx context.Context, user, id uuid.UUID) (bool, error) {
	return s.store.Alive(ctx, user, id, s.now())
}

func (k Key) allows(from netip.Addr) bool {
	return len(k.Allowed) == 0 || slices.ContainsFunc(k.Allowed,
		func(p netip.Prefix) bool { return p.Contains(from.Unmap()) })
}
