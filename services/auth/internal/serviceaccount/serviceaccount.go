// Package serviceaccount lets programs sign in as themselves, with a client id and a secret (RFC 6749, section 4.4).
//
// It promises: a secret is shown once and stored as a hash; when it is replaced, the old one stays valid for a stated
// overlap, which may be zero; a token lasts five minutes, carries the account's own permissions, says "svc" in amr and
// is not refreshed; every invalid secret gets the same answer, and secrets are compared in constant time.
//
// Limits: wrong secrets are counted by client address alone: counted by account, they would let anybody lock a service
// out, and 256 random bits can't be guessed.
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

// TokenTTL is the lifetime of a service account's token.
const TokenTTL = 5 * time.Minute

const (
	// Method is the amr of a service account's tokens.
	Method = authn.MethodService
	// prefix makes a leaked secret recognizable to secret scanners.
	prefix = "purser_svc_"
	// secretBytes is the number of random bytes of a secret.
	secretBytes = 32
	// MaxOverlap is the maximum time for which old secrets stay valid beside a newer one.
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
	Secrets     []Secret  // newest first
}

// Secret is a secret as stored.
type Secret struct {
	ID         uuid.UUID
	Hash       Hash
	CreatedAt  time.Time
	ExpiresAt  time.Time // zero while it is the newest
	LastUsedAt time.Time // zero before its first use
}

// Change decides what to make of a locked account, which has all its stored secrets, and the event to record, none
// when it has no type. Tokens of the secrets that it drops, and of an account that it disables, are revoked. It may
// run more than once, and only the last result is stored; when it fails, nothing is.
type Change func(a Account) (Account, audit.Event, error)

// Store is where service accounts are stored. What it reads has the secrets that can be used at now.
type Store interface {
	// Create stores an account with its secrets, and e; false when the name is taken, with nothing changed. It
	// refuses a caller who does not hold each of the account's permissions; see package authority.
	Create(ctx context.Context, a Account, e audit.Event) (bool, error)
	// ByName and ByID return errs.NotFound for an unknown name or id.
	ByName(ctx context.Context, name string, now time.Time) (Account, error)
	ByID(ctx context.Context, id uuid.UUID, now time.Time) (Account, error)
	// List returns up to limit accounts by name, those after a name.
	List(ctx context.Context, after string, limit int, now time.Time) ([]Account, error)
	// Change locks an account and stores what change makes of it, in one transaction: its permissions, when it was
	// disabled, and which secrets it has until when. Tokens are revoked when the account loses a permission or is
	// disabled. It refuses a caller who does not hold each of the permissions that the account has before and after.
	// errs.NotFound.
	Change(ctx context.Context, id uuid.UUID, change Change) error
	// RecordUse stores when a secret was used.
	RecordUse(ctx context.Context, secret uuid.UUID, at time.Time) error
}

// Signer signs access tokens; *signing.Ring is one.
type Signer interface {
	Sign(c authn.Claims, ttl time.Duration) (string, time.Time, error)
}

// Service applies the rules of service accounts.
type Service struct {
	store  Store
	signer Signer
	audit  audit.Recorder
	now    func() time.Time
}

// NewService returns a Service over a store. signer may be nil where no tokens are issued.
func NewService(s Store, signer Signer, a audit.Recorder, now func() time.Time) *Service {
	return &Service{store: s, signer: signer, audit: a, now: now}
}

var validName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)

// Create makes an account in the name of actor, zero on the command line, and returns its secret, which can't be read
// again. errs.Invalid, errs.PermissionDenied
// (PERMISSION_NOT_HELD), errs.AlreadyExists (SERVICE_ACCOUNT_EXISTS).
func (s *Service) Create(ctx context.Context, actor uuid.UUID, name string, permissions []string) (string, Account,
	error) {
	return s.create(ctx, actor, name, permissions, newSecret)
}

// secretSource returns a secret: its text, and what is stored of it.
type secretSource func(now time.Time) (string, Secret, error)

func (s *Service) create(ctx context.Context, actor uuid.UUID, name string, permissions []string,
	source secretSource) (string,
	Account, error) {
	if err := Check(name, permissions); err != nil {
		return "", Account{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return "", Account{}, fmt.Errorf("new service account id: %w", err)
	}
	now := s.now().UTC()
	text, secret, err := source(now)
	if err != nil {
		return "", Account{}, err
	}
	a := Account{ID: id, Name: name, Permissions: slices.Sorted(slices.Values(permissions)), CreatedAt: now,
		Secrets: []Secret{secret}}
	created, err := s.store.Create(ctx, a, audit.Event{Type: audit.ServiceAccountCreated, Actor: actor, Subject: id,
		Object: name})
	if err != nil {
		return "", Account{}, err
	}
	if !created {
		return "", Account{}, errs.AlreadyExists("SERVICE_ACCOUNT_EXISTS", "there is a service account with this "+
			"name already; choose another, or rotate its secret")
	}
	return text, a, nil
}

// Check returns errs.Invalid with every mistake in a request for an account.
func Check(name string, permissions []string) error {
	var wrong error
	if !validName.MatchString(name) {
		wrong = errs.Invalid("name", `must be 1 to 63 lower-case letters, digits and "-", beginning with a letter, `+
			errs.Given(name))
	}
	return errs.AllInvalid(wrong, CheckPermissions(permissions))
}

// CheckPermissions returns errs.Invalid with every permission that does not exist.
func CheckPermissions(permissions []string) error {
	var unknown []error
	for i, p := range permissions {
		if !role.Exists(p) {
			unknown = append(unknown, errs.Invalid(fmt.Sprintf("permissions[%d]", i), fmt.Sprintf(
				"must be one of %s, %s", strings.Join(role.Permissions([]string{role.Admin}), ", "), errs.Given(p))))
		}
	}
	return errs.AllInvalid(unknown...)
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

// Rotate makes a new secret and returns it; the old ones stay valid for overlap, 0 to MaxOverlap. errs.NotFound,
// errs.PermissionDenied (PERMISSION_NOT_HELD), errs.FailedPrecondition (SERVICE_ACCOUNT_DISABLED).
func (s *Service) Rotate(ctx context.Context, actor uuid.UUID, id uuid.UUID, overlap time.Duration) (string, Account,
	error) {
	return s.rotate(ctx, actor, id, overlap, newSecret)
}

func (s *Service) rotate(ctx context.Context, actor uuid.UUID, id uuid.UUID, overlap time.Duration,
	source secretSource) (string, Account, error) {
	now := s.now().UTC()
	text, secret, err := source(now)
	if err != nil {
		return "", Account{}, err
	}
	e := audit.Event{Type: audit.ServiceAccountRotated, Actor: actor, Subject: id, Object: secret.ID.String()}
	err = s.store.Change(ctx, id, func(a Account) (Account, audit.Event, error) {
		a, err := a.rotated(secret, overlap)
		return a, e, err
	})
	if err != nil {
		return "", Account{}, err
	}
	a, err := s.store.ByID(ctx, id, now)
	return text, a, err
}

// rotated adds a new secret: the others end after overlap, unless they end before that.
func (a Account) rotated(fresh Secret, overlap time.Duration) (Account, error) {
	if !a.DisabledAt.IsZero() {
		return a, errs.FailedPrecondition("SERVICE_ACCOUNT_DISABLED", "the service account is disabled")
	}
	a.Secrets = endSecrets(a.Secrets, fresh.CreatedAt.Add(min(max(overlap, 0), MaxOverlap)), fresh.CreatedAt)
	a.Secrets = slices.Insert(a.Secrets, 0, fresh)
	return a, nil
}

// endSecrets lets secrets expire at a time, unless they do before, and drops those that have expired by now.
func endSecrets(secrets []Secret, at, now time.Time) []Secret {
	var left []Secret
	for _, s := range secrets {
		if s.ExpiresAt.IsZero() || s.ExpiresAt.After(at) {
			s.ExpiresAt = at
		}
		if s.ExpiresAt.After(now) {
			left = append(left, s)
		}
	}
	return left
}

// List returns up to limit accounts by name, those after a name.
func (s *Service) List(ctx context.Context, after string, limit int) ([]Account, error) {
	return s.store.List(ctx, after, limit, s.now())
}

// Disable disables an account, and ends its secrets for good. A disabled account is left as it is. errs.NotFound,
// errs.PermissionDenied (PERMISSION_NOT_HELD).
func (s *Service) Disable(ctx context.Context, actor, id uuid.UUID) error {
	now := s.now().UTC()
	return s.store.Change(ctx, id, func(a Account) (Account, audit.Event, error) {
		if !a.DisabledAt.IsZero() {
			return a, audit.Event{}, nil
		}
		return a.disabled(now), audit.Event{Type: audit.ServiceAccountDisabled, Actor: actor, Subject: id}, nil
	})
}

// disabled disables an enabled account: its secrets end with it.
func (a Account) disabled(now time.Time) Account {
	a.DisabledAt, a.Secrets = now, endSecrets(a.Secrets, now, now)
	return a
}

// Issue issues a token for a secret. errs.Unauthenticated (SERVICE_SECRET_INVALID) whatever is wrong with it.
func (s *Service) Issue(ctx context.Context, name, presented string) (token string, expires time.Time, err error) {
	now := s.now().UTC()
	a, err := s.store.ByName(ctx, name, now)
	if err != nil && !errs.Is(err, errs.KindNotFound) {
		return "", time.Time{}, err
	}
	secret, ok := a.matching(presented)
	if !ok {
		refusal := errs.Unauthenticated("SERVICE_SECRET_INVALID", "the client_id or the client_secret is wrong, "+
			"or the secret was rotated, or the account is disabled")
		e := audit.Event{Type: audit.ServiceAccountRefused, Outcome: audit.Refused, Reason: refusal.Reason,
			Subject: a.ID}
		if err := s.audit.Record(ctx, e); err != nil {
			return "", time.Time{}, err
		}
		return "", time.Time{}, refusal
	}
	token, expires, err = s.signer.Sign(authn.Claims{
		RegisteredClaims: jwt.RegisteredClaims{Subject: a.ID.String(), ID: uuid.NewString()},
		SessionID:        secret.ID.String(), // revoking it ends its tokens
		Permissions:      a.Permissions,
		AMR:              []string{Method},
		AuthTime:         jwt.NewNumericDate(now),
	}, TokenTTL)
	if err == nil && now.Sub(secret.LastUsedAt) >= time.Minute {
		err = s.store.RecordUse(ctx, secret.ID, now)
	}
	return token, expires, err
}

// matching returns the account's secret that was presented; false when there is none, or the account is disabled.
func (a Account) matching(presented string) (found Secret, ok bool) {
	hash := Hash(sha256.Sum256([]byte(presented)))
	for _, s := range a.Secrets {
		if subtle.ConstantTimeCompare(s.Hash[:], hash[:]) == 1 && a.DisabledAt.IsZero() {
			found, ok = s, true
		}
	}
	return found, ok
}

// Ensure creates an account, or gives an existing one these permissions unless they are nil. It returns "" when
// presented is a valid secret of the account, otherwise a new secret; the old ones stay valid for an hour.
// errs.Invalid, errs.FailedPrecondition (SERVICE_ACCOUNT_DISABLED).
func (s *Service) Ensure(ctx context.Context, name string, permissions []string, presented string) (string, error) {
	return s.ensure(ctx, name, permissions, presented, newSecret)
}

// EnsureGiven is Ensure for a secret that was generated by somebody else: when it is not a valid secret of the account
// it becomes the newest, and added is true. It must have the form of a generated secret, so that nobody sets one that
// can be guessed: errs.Invalid on secret. A secret that had ended becomes valid again.
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
	source secretSource) (string, error) {
	now := s.now().UTC()
	a, err := s.store.ByName(ctx, name, now)
	if errs.Is(err, errs.KindNotFound) {
		text, _, err := s.create(ctx, uuid.Nil, name, permissions, source)
		return text, err
	}
	if err != nil {
		return "", err
	}
	if !a.DisabledAt.IsZero() {
		return "", errs.FailedPrecondition("SERVICE_ACCOUNT_DISABLED", "the service account is disabled")
	}
	if err := CheckPermissions(permissions); err != nil {
		return "", err
	}
	if sorted := slices.Sorted(slices.Values(permissions)); permissions != nil &&
		!slices.Equal(sorted, a.Permissions) {
		if err := s.setPermissions(ctx, uuid.Nil, a.ID, sorted); err != nil {
			return "", err
		}
	}
	if _, ok := a.matching(presented); ok {
		return "", nil
	}
	// The old ones stay valid for a while, because other replicas of the program may use them.
	text, _, err := s.rotate(ctx, uuid.Nil, a.ID, time.Hour, source)
	return text, err
}
