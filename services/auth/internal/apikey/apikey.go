// Package apikey issues keys with which programs sign in in their owner's name.
//
// It promises: a key is shown once and stored as a hash; a token for it carries no permission beyond the key's scopes
// and what its owner holds at the moment, is issued to no other address than the key allows, and lasts five minutes.
//
// Limits: tokens that a revoked key was exchanged for are accepted until verifiers hear of the revocation.
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
	"github.com/purserhq/purser/services/auth/internal/authority"
	"github.com/purserhq/purser/services/auth/internal/role"
)

// TokenTTL is the lifetime of a token that a key was exchanged for.
const TokenTTL = 5 * time.Minute

const (
	// Method is the amr of tokens that a key was exchanged for.
	Method = authn.MethodAPIKey
	// prefix makes a leaked key recognizable to secret scanners.
	prefix          = "purser_key_"
	defaultLifetime = 90 * 24 * time.Hour
	maxLifetime     = 366 * 24 * time.Hour
	maxPerUser      = 50
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

// Store is where keys are stored.
type Store interface {
	// Create locks the key's user and stores the key and e, unless check refuses. It refuses what package authority
	// refuses.
	Create(ctx context.Context, k Key, e audit.Event, check Check) error
	// List returns the user's keys, newest first.
	List(ctx context.Context, user uuid.UUID) ([]Key, error)
	// Revoke ends a key of this user, and stores e when it had not ended
	// before. errs.NotFound when the user has no such key.
	Revoke(ctx context.Context, user, id uuid.UUID, at time.Time, e audit.Event) error
	// ByHash returns a key and its owner's access state; errs.NotFound.
	ByHash(ctx context.Context, h Hash) (Key, account.AccessState, error)
	// RecordUse stores when a key was used.
	RecordUse(ctx context.Context, id uuid.UUID, at time.Time) error
}

// Check decides about a new key, by how many of the user's keys can be used and what the caller holds now.
type Check func(usable int, held authority.Held) error

// Signer signs access tokens; *signing.Ring is one.
type Signer interface {
	Sign(c authn.Claims, ttl time.Duration) (string, time.Time, error)
}

// Service applies the rules of API keys.
type Service struct {
	store  Store
	signer Signer
	audit  audit.Recorder
	now    func() time.Time
}

// NewService returns a Service over a store.
func NewService(s Store, signer Signer, a audit.Recorder, now func() time.Time) *Service {
	return &Service{store: s, signer: signer, audit: a, now: now}
}

// CreateRequest is a request for a key.
type CreateRequest struct {
	Name      string
	Scopes    []string
	Allowed   []string  // network prefixes; any address when empty
	ExpiresAt time.Time // 90 days from now when zero
}

// Create makes a key for the caller and returns it; it can't be read again. errs.Invalid, errs.PermissionDenied
// (SCOPE_NOT_HELD), errs.FailedPrecondition (TOO_MANY_API_KEYS).
func (s *Service) Create(ctx context.Context, caller authn.Caller, r CreateRequest) (string, Key, error) {
	k, err := s.newKey(caller, r)
	if err != nil {
		return "", Key{}, err
	}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails: crypto/rand ends the program instead
	key := prefix + base64.RawURLEncoding.EncodeToString(secret)
	k.Hash = sha256.Sum256([]byte(key))
	e := audit.Event{Type: audit.APIKeyCreated, Actor: k.UserID, Subject: k.UserID, Object: k.ID.String()}
	if err := s.store.Create(ctx, k, e, k.check); err != nil {
		return "", Key{}, err
	}
	return key, k, nil
}

// check refuses one more key than a user may have, and scopes that the caller does not hold any more.
func (k Key) check(usable int, held authority.Held) error {
	for _, scope := range k.Scopes {
		if !held.May(scope) {
			return scopeNotHeld(scope, held.Permissions)
		}
	}
	if usable >= maxPerUser {
		return errs.FailedPrecondition("TOO_MANY_API_KEYS",
			fmt.Sprintf("a user has at most %d keys that can be used; revoke one first", maxPerUser))
	}
	return nil
}

func scopeNotHeld(scope string, held []string) error {
	return errs.PermissionDenied("SCOPE_NOT_HELD", fmt.Sprintf("a key's scopes are of its owner's permissions, which "+
		"don't include %s; they have %s", scope, strings.Join(held, ", "))).With("permission", scope)
}

// newKey checks a request and returns the key without its hash.
func (s *Service) newKey(caller authn.Caller, r CreateRequest) (Key, error) {
	if err := s.Check(r); err != nil {
		return Key{}, err
	}
	for _, scope := range r.Scopes {
		if !caller.May(scope) {
			return Key{}, scopeNotHeld(scope, caller.Permissions)
		}
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Key{}, fmt.Errorf("new key id: %w", err)
	}
	now := s.now().UTC()
	k := Key{ID: id, UserID: caller.UserID, Name: strings.TrimSpace(r.Name), Scopes: r.Scopes,
		Allowed: []netip.Prefix{}, CreatedAt: now, ExpiresAt: r.ExpiresAt.UTC()}
	if r.ExpiresAt.IsZero() {
		k.ExpiresAt = now.Add(defaultLifetime)
	}
	for _, text := range r.Allowed {
		p, err := netip.ParsePrefix(text)
		if err != nil { // Check has tried it
			return Key{}, fmt.Errorf("prefix: %w", err)
		}
		k.Allowed = append(k.Allowed, p.Masked())
	}
	return k, nil
}

// Check returns errs.Invalid with every mistake in a request for a key.
func (s *Service) Check(r CreateRequest) error {
	var name, expires, allowed error
	if text := strings.TrimSpace(r.Name); text == "" || strings.ContainsFunc(text, unicode.IsControl) {
		name = errs.Invalid("name", "must have a visible character and no control characters, "+errs.Given(r.Name))
	}
	if now := s.now().UTC(); !r.ExpiresAt.IsZero() &&
		(!r.ExpiresAt.After(now) || r.ExpiresAt.After(now.Add(maxLifetime))) {
		expires = errs.Invalid("expire_time", fmt.Sprintf("must be later than now (%s) and at most a year from "+
			"it, got %s",
			now.Format(time.RFC3339), r.ExpiresAt.UTC().Format(time.RFC3339)))
	}
	for i, text := range r.Allowed {
		if _, err := netip.ParsePrefix(text); err != nil && allowed == nil {
			allowed = errs.Invalid(fmt.Sprintf("allowed_cidrs[%d]", i),
				`must be an address range, for example "192.0.2.0/24", `+errs.Given(text))
		}
	}
	return errs.AllInvalid(name, allowed, expires)
}

// List returns the caller's keys, newest first.
func (s *Service) List(ctx context.Context, user uuid.UUID) ([]Key, error) {
	return s.store.List(ctx, user)
}

// Revoke ends one of the caller's keys. errs.NotFound when it is none of theirs.
func (s *Service) Revoke(ctx context.Context, user, id uuid.UUID) error {
	return s.store.Revoke(ctx, user, id, s.now().UTC(),
		audit.Event{Type: audit.APIKeyRevoked, Actor: user, Subject: user, Object: id.String()})
}

// Exchange issues an access token for a key that is used from an address. errs.Unauthenticated (API_KEY_INVALID)
// whatever is wrong with it.
func (s *Service) Exchange(ctx context.Context, key string, from netip.Addr) (token string, expires time.Time,
	err error) {
	invalid := errs.Unauthenticated("API_KEY_INVALID", "the API key is wrong, revoked, expired or not allowed "+
		"from this address; its owner sees it in ListApiKeys")
	k, access, err := s.store.ByHash(ctx, sha256.Sum256([]byte(key)))
	if errs.Is(err, errs.KindNotFound) {
		return "", time.Time{}, s.refused(ctx, Key{}, invalid)
	}
	if err != nil {
		return "", time.Time{}, err
	}
	now := s.now().UTC()
	if k.RevokedAt != nil || !now.Before(k.ExpiresAt) || !k.allows(from) || access.Disabled {
		return "", time.Time{}, s.refused(ctx, k, invalid)
	}
	held := role.Permissions(access.Roles)
	scopes := slices.DeleteFunc(slices.Clone(k.Scopes),
		func(scope string) bool { return !slices.Contains(held, scope) })
	token, expires, err = s.signer.Sign(authn.Claims{
		RegisteredClaims: jwt.RegisteredClaims{Subject: k.UserID.String(), ID: uuid.NewString()},
		SessionID:        k.ID.String(),
		Permissions:      scopes,
		Attributes:       access.Attributes,
		AMR:              []string{Method},
		AuthTime:         jwt.NewNumericDate(now),
	}, min(TokenTTL, k.ExpiresAt.Sub(now)))
	if err != nil {
		return "", time.Time{}, err
	}
	if k.LastUsedAt == nil || now.Sub(*k.LastUsedAt) >= time.Minute {
		err = s.store.RecordUse(ctx, k.ID, now)
	}
	return token, expires, err
}

// refused records that a key was refused, and returns the refusal.
func (s *Service) refused(ctx context.Context, k Key, refusal *errs.Error) error {
	e := audit.Event{Type: audit.APIKeyRefused, Outcome: audit.Refused, Reason: refusal.Reason, Subject: k.UserID}
	if k.ID != uuid.Nil {
		e.Object = k.ID.String()
	}
	if err := s.audit.Record(ctx, e); err != nil {
		return err
	}
	return refusal
}

func (k Key) allows(from netip.Addr) bool {
	return len(k.Allowed) == 0 || slices.ContainsFunc(k.Allowed,
		func(p netip.Prefix) bool { return p.Contains(from.Unmap()) })
}
