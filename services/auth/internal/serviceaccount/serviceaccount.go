// Package serviceaccount lets programs sign in in their own name (RFC 6749,
// section 4.4).
//
// It promises: a secret is shown once and kept as a hash; while one replaces
// another both are good, for a stated time or not at all; a token lasts five
// minutes, carries the account's own permissions, says "svc" in amr and is not
// refreshed; whatever is wrong with what was presented is answered alike, and
// compared in constant time.
//
// Limits: wrong secrets are counted by address alone, since who counts against
// the account could keep the service out, and 256 random bits can't be guessed.
package serviceaccount

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/role"
)

// TokenTTL is how long a token of a service account lives.
const TokenTTL = 5 * time.Minute

const (
	// Method is the amr of a service account's tokens.
	Method = authn.MethodService
	// prefix lets a secret that leaked be found by who scans for it.
	prefix = "purser_svc_"
	// secretBytes of a secret are random.
	secretBytes = 32
	// MaxOverlap is the longest that secrets stay good beside a newer one.
	MaxOverlap = 7 * 24 * time.Hour
)

// Hash is the SHA-256 of a secret. A secret is random, so a fast hash is enough.
type Hash [sha256.Size]byte

// Account is a service account as stored.
type Account struct {
	ID          uuid.UUID
	Name        string
	Permissions []string
	CreatedAt   time.Time
	DisabledAt  time.Time // zero unless it is disabled
	Secrets     []Secret  // those that can be used, newest first
}

// Secret is a secret as stored.
type Secret struct {
	ID         uuid.UUID
	Hash       Hash
	CreatedAt  time.Time
	ExpiresAt  time.Time // zero while it is the newest
	LastUsedAt time.Time // zero while it wasn't used
}

// Store is where service accounts are kept. What it returns has the secrets
// that can be used at now.
type Store interface {
	// Create stores an account with its first secret, and e with it; false
	// when the name is taken, with nothing changed.
	Create(ctx context.Context, a Account, e audit.Event) (bool, error)
	// ByName and ByID return errs.NotFound for what nobody has.
	ByName(ctx context.Context, name string, now time.Time) (Account, error)
	ByID(ctx context.Context, id uuid.UUID, now time.Time) (Account, error)
	List(ctx context.Context, now time.Time) ([]Account, error)
	// Rotate adds a secret to an account that is not disabled, lets its others
	// end at the given time, or at once when that is not after the new one's
	// making, and stores e. errs.NotFound, errs.FailedPrecondition.
	Rotate(ctx context.Context, id uuid.UUID, fresh Secret, othersEnd time.Time, e audit.Event) error
	// Disable ends an account and its secrets, and stores e when it had not
	// ended before. errs.NotFound.
	Disable(ctx context.Context, id uuid.UUID, at time.Time, e audit.Event) error
	// SetPermissions replaces an account's permissions, and stores e.
	SetPermissions(ctx context.Context, id uuid.UUID, permissions []string, e audit.Event) error
	// Used notes that a secret was used.
	Used(ctx context.Context, secret uuid.UUID, at time.Time) error
}

// Signer signs access tokens; *signing.Ring is one.
type Signer interface {
	Sign(c authn.Claims, ttl time.Duration) (string, time.Time, error)
}

// Service is the rules of service accounts.
type Service struct {
	store  Store
	signer Signer
	audit  audit.Recorder
	now    func() time.Time
}

// NewService returns the rules over a store. Without a signer it can't issue
// tokens.
func NewService(s Store, signer Signer, a audit.Recorder, now func() time.Time) *Service {
	return &Service{store: s, signer: signer, audit: a, now: now}
}

// Grantor is who makes or changes an account: nobody gives what they don't
// hold. The zero Actor is the command line, which may give everything.
type Grantor struct {
	Actor uuid.UUID
	May   func(permission string) bool
}

func (g Grantor) check(permissions []string) error {
	for _, p := range permissions {
		if g.May != nil && !g.May(p) {
			return errs.PermissionDenied("PERMISSION_NOT_HELD", "the caller doesn't hold "+p)
		}
	}
	return nil
}

var goodName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)

// Create makes an account and returns its secret, which can't be read again.
func (s *Service) Create(ctx context.Context, by Grantor, name string, permissions []string) (string, Account, error) {
	return s.create(ctx, by, name, permissions, newSecret)
}

// maker makes a secret: its text, and what is stored of it.
type maker func(now time.Time) (string, Secret, error)

func (s *Service) create(ctx context.Context, by Grantor, name string, permissions []string, fresh maker) (string,
	Account, error) {
	if !goodName.MatchString(name) {
		return "", Account{}, errs.Invalid("name",
			`must be lower-case letters, digits and "-", beginning with a letter`)
	}
	if err := known(permissions); err != nil {
		return "", Account{}, err
	}
	if err := by.check(permissions); err != nil {
		return "", Account{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return "", Account{}, fmt.Errorf("new service account id: %w", err)
	}
	now := s.now().UTC()
	text, secret, err := fresh(now)
	if err != nil {
		return "", Account{}, err
	}
	a := Account{ID: id, Name: name, Permissions: slices.Sorted(slices.Values(permissions)), CreatedAt: now,
		Secrets: []Secret{secret}}
	created, err := s.store.Create(ctx, a, audit.Event{Type: audit.ServiceAccountCreated, Actor: by.Actor, Subject: id,
		Object: name})
	if err != nil {
		return "", Account{}, err
	}
	if !created {
		return "", Account{}, errs.AlreadyExists("SERVICE_ACCOUNT_EXISTS", "a service account has this name")
	}
	return text, a, nil
}

func known(permissions []string) error {
	for _, p := range permissions {
		if !role.Exists(p) {
			return errs.Invalid("permissions", "there is no permission "+p)
		}
	}
	return nil
}

func newSecret(now time.Time) (string, Secret, error) {
	b := make([]byte, secretBytes)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the program instead
	return asSecret(prefix+base64.RawURLEncoding.EncodeToString(b), now)
}

func asSecret(text string, now time.Time) (string, Secret, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return "", Secret{}, fmt.Errorf("new secret id: %w", err)
	}
	return text, Secret{ID: id, Hash: sha256.Sum256([]byte(text)), CreatedAt: now}, nil
}

// Rotate makes a new secret and returns it; those from before are good for
// overlap more, 0 to MaxOverlap. errs.NotFound, errs.FailedPrecondition
// (SERVICE_ACCOUNT_DISABLED).
func (s *Service) Rotate(ctx context.Context, by Grantor, id uuid.UUID, overlap time.Duration) (string, Account,
	error) {
	return s.rotate(ctx, by, id, overlap, newSecret)
}

func (s *Service) rotate(ctx context.Context, by Grantor, id uuid.UUID, overlap time.Duration, fresh maker) (string,
	Account, error) {
	now := s.now().UTC()
	a, err := s.store.ByID(ctx, id, now)
	if err != nil {
		return "", Account{}, err
	}
	if err := by.check(a.Permissions); err != nil { // or a new secret would give them
		return "", Account{}, err
	}
	text, secret, err := fresh(now)
	if err != nil {
		return "", Account{}, err
	}
	err = s.store.Rotate(ctx, id, secret, now.Add(min(max(overlap, 0), MaxOverlap)),
		audit.Event{Type: audit.ServiceAccountRotated, Actor: by.Actor, Subject: id, Object: secret.ID.String()})
	if err != nil {
		return "", Account{}, err
	}
	a, err = s.store.ByID(ctx, id, now)
	return text, a, err
}

// List returns the accounts by name, at most 1,000.
func (s *Service) List(ctx context.Context) ([]Account, error) { return s.store.List(ctx, s.now()) }

// Disable ends an account for good. errs.NotFound.
func (s *Service) Disable(ctx context.Context, actor, id uuid.UUID) error {
	return s.store.Disable(ctx, id, s.now().UTC(), audit.Event{Type: audit.ServiceAccountDisabled, Actor: actor, Subject: id})
}

// Issue gives a token for a secret. errs.Unauthenticated
// (SERVICE_SECRET_INVALID) whatever is wrong with it.
func (s *Service) Issue(ctx context.Context, name, presented string) (token string, expires time.Time, err error) {
	now := s.now().UTC()
	a, err := s.store.ByName(ctx, name, now)
	if err != nil && !errs.Is(err, errs.KindNotFound) {
		return "", time.Time{}, err
	}
	secret, ok := a.matching(presented)
	if !ok {
		why := errs.Unauthenticated("SERVICE_SECRET_INVALID", "the client or its secret is not valid")
		if err := s.audit.Record(ctx, audit.Event{Type: audit.ServiceAccountRefused, Outcome: audit.Refused,
			Reason: why.Reason, Subject: a.ID}); err != nil {
			return "", time.Time{}, err
		}
		return "", time.Time{}, why
	}
	token, expires, err = s.signer.Sign(authn.Claims{
		RegisteredClaims: jwt.RegisteredClaims{Subject: a.ID.String(), ID: uuid.NewString()},
		SessionID:        secret.ID.String(), // revoking it ends its tokens
		Permissions:      a.Permissions,
		AMR:              []string{Method},
		AuthTime:         jwt.NewNumericDate(now),
	}, TokenTTL)
	if err == nil && now.Sub(secret.LastUsedAt) >= time.Minute {
		err = s.store.Used(ctx, secret.ID, now)
	}
	return token, expires, err
}

// matching is the account's secret that was presented.
func (a Account) matching(presented string) (found Secret, ok bool) {
	hash := Hash(sha256.Sum256([]byte(presented)))
	for _, s := range a.Secrets {
		if subtle.ConstantTimeCompare(s.Hash[:], hash[:]) == 1 && a.DisabledAt.IsZero() {
			found, ok = s, true
		}
	}
	return found, ok
}

// Alive reports whether a secret of this account can still be used.
func (s *Service) Alive(ctx context.Context, id, secret uuid.UUID) (bool, error) {
	a, err := s.store.ByID(ctx, id, s.now())
	if errs.Is(err, errs.KindNotFound) {
		return false, nil
	}
	return err == nil && a.DisabledAt.IsZero() &&
		slices.ContainsFunc(a.Secrets, func(x Secret) bool { return x.ID == secret }), err
}

// Ensure makes sure that an account is there with these permissions, unless
// they are nil and it has some already, and that presented, unless it is
// empty, is a secret of it; it returns a new secret when that is not so, and
// "" when all is well. errs.FailedPrecondition (SERVICE_ACCOUNT_DISABLED).
func (s *Service) Ensure(ctx context.Context, name string, permissions []string, presented string) (string, error) {
	return s.ensure(ctx, name, permissions, presented, newSecret)
}

// EnsureGiven is Ensure for a secret that was made elsewhere: when it is none
// of the account's it becomes the newest, and added is true. It must have the
// form of those that are made here, so that nobody gives one that can be
// guessed: errs.Invalid. One that was ended comes back when it is given again.
func (s *Service) EnsureGiven(ctx context.Context, name string, permissions []string, given string) (added bool,
	err error) {
	random, ok := strings.CutPrefix(given, prefix)
	if b, err := base64.RawURLEncoding.Strict().DecodeString(random); !ok || err != nil || len(b) != secretBytes {
		return false, errs.Invalid("secret", fmt.Sprintf("must be %s and %d random bytes in base64url without padding",
			prefix, secretBytes))
	}
	text, err := s.ensure(ctx, name, permissions, given,
		func(now time.Time) (string, Secret, error) { return asSecret(given, now) })
	return text != "", err
}

func (s *Service) ensure(ctx context.Context, name string, permissions []string, presented string,
	fresh maker) (string, error) {
	now := s.now().UTC()
	a, err := s.store.ByName(ctx, name, now)
	if errs.Is(err, errs.KindNotFound) {
		text, _, err := s.create(ctx, Grantor{}, name, permissions, fresh)
		return text, err
	}
	if err != nil {
		return "", err
	}
	if !a.DisabledAt.IsZero() {
		return "", errs.FailedPrecondition("SERVICE_ACCOUNT_DISABLED", "the service account is disabled")
	}
	if err := known(permissions); err != nil {
		return "", err
	}
	if want := slices.Sorted(slices.Values(permissions)); permissions != nil && !slices.Equal(want, a.Permissions) {
		err := s.store.SetPermissions(ctx, a.ID, want,
			audit.Event{Type: audit.ServiceAccountChanged, Subject: a.ID, Object: name})
		if err != nil {
			return "", err
		}
	}
	if _, ok := a.matching(presented); ok {
		return "", nil
	}
	// The ones from before stay for a while: other replicas may use them.
	text, _, err := s.rotate(ctx, Grantor{}, a.ID, time.Hour, fresh)
	return text, err
}
