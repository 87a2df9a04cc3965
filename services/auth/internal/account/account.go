// Package account creates accounts and reads them.
package account

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/role"
)

// MaxPassword is the longest password, in characters.
const MaxPassword = 128

// User is an account.
type User struct {
	ID          uuid.UUID
	Email       string // lower case; empty for one that has none, as a wallet's
	DisplayName string
	Roles       []string
	CreatedAt   time.Time
	// VerifiedAt is when it was proven that its address is its owner's; zero
	// while it is not.
	VerifiedAt time.Time
}

// Standing is what an account may do at the moment.
type Standing struct {
	Roles []string
	// Attributes ride in its tokens, for callers' own rules.
	Attributes map[string]string
	// Disabled accounts can't sign in, nor refresh.
	Disabled bool
}

// ErrDisabled is the answer to who proved to be the owner of a disabled account.
func ErrDisabled() error {
	return errs.Unauthenticated("ACCOUNT_DISABLED", "the account is disabled")
}

// Store is where accounts are kept.
type Store interface {
	// Create stores a user with the hash of their password; false when the
	// address is taken, with nothing changed.
	Create(ctx context.Context, u User, passwordHash string) (bool, error)
	// ByID returns errs.NotFound for an id that nobody has.
	ByID(ctx context.Context, id uuid.UUID) (User, error)
}

// Hasher hashes passwords; see package password.
type Hasher interface {
	Hash(ctx context.Context, password string) (string, error)
}

// Service is the rules of accounts.
type Service struct {
	store       Store
	hasher      Hasher
	minPassword int
	now         func() time.Time
}

// NewService returns the rules over a store; minPassword in characters.
func NewService(s Store, h Hasher, minPassword int, now func() time.Time) *Service {
	return &Service{store: s, hasher: h, minPassword: minPassword, now: now}
}

// Register creates an account. Whether the address was taken is told to
// nobody: the password is hashed either way, so the time doesn't tell either.
func (s *Service) Register(ctx context.Context, email, password, displayName string) error {
	if n := utf8.RuneCountInString(password); n < s.minPassword || n > MaxPassword {
		return errs.Invalid("password", fmt.Sprintf("must have %d to %d characters", s.minPassword, MaxPassword))
	}
	displayName = strings.TrimSpace(displayName)
	if strings.ContainsFunc(displayName, unicode.IsControl) {
		return errs.Invalid("display_name", "must not contain control characters")
	}
	hash, err := s.hasher.Hash(ctx, password)
	if err != nil {
		return err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("new user id: %w", err)
	}
	_, err = s.store.Create(ctx, User{
		ID: id, Email: NormalEmail(email), DisplayName: displayName,
		Roles: []string{role.IndividualInvestor}, CreatedAt: s.now().UTC(),
	}, hash)
	return err
}

// ByID returns an account.
func (s *Service) ByID(ctx context.Context, id uuid.UUID) (User, error) { return s.store.ByID(ctx, id) }

// NormalEmail is the form that addresses are stored and compared in.
func NormalEmail(email string) string { return strings.ToLower(strings.TrimSpace(email)) }
