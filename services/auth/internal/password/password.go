// Package password hashes and checks passwords with argon2id (RFC 9106; 19 MiB,
// two passes and one lane as OWASP recommends) in PHC strings, and recognizes
// breached passwords.
//
// It promises: the memory of concurrent hashes is bounded. It is divided into
// slots of MemoryKiB; a call that gets no slot within slotTimeout fails with
// errs.Exhausted, so that a flood of logins can't exhaust memory. Hashes of bcrypt,
// and of argon2id with other parameters, are checked too, and reported by
// NeedsRehash.
//
// Limits: parameters of stored hashes are bounded, see parse.
package password

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/alexedwards/argon2id"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/sync/semaphore"

	"github.com/purserhq/purser/pkg/errs"
)

// MemoryKiB is the memory of one hash, and the size of a slot.
const MemoryKiB = 19 * 1024

// slotTimeout is how long a call waits for its slots.
const slotTimeout = 500 * time.Millisecond

// Hasher hashes and checks passwords. It is safe for concurrent use.
type Hasher struct {
	slots     *semaphore.Weighted
	slotCount int64
	params    argon2id.Params
	decoy     string
}

// New returns a hasher with slotCount slots of MemoryKiB.
func New(slotCount int) (*Hasher, error) {
	h := &Hasher{
		slots: semaphore.NewWeighted(int64(slotCount)), slotCount: int64(slotCount),
		params: argon2id.Params{Memory: MemoryKiB, Iterations: 2, Parallelism: 1, SaltLength: 16, KeyLength: 32},
	}
	decoy, err := argon2id.CreateHash("nobody's password", &h.params)
	if err != nil {
		return nil, fmt.Errorf("decoy hash: %w", err)
	}
	h.decoy = decoy
	return h, nil
}

// Hash returns the PHC string of a password. errs.Exhausted
// (PASSWORD_HASHING_BUSY) when no slot became free within half a second.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	done, err := h.acquire(ctx, 1)
	if err != nil {
		return "", err
	}
	defer done()
	s, err := argon2id.CreateHash(password, &h.params)
	if err != nil {
		return "", fmt.Errorf("hash password: %w", err)
	}
	return s, nil
}

// Matches reports whether hash is a hash of password. An empty hash, for an
// account that doesn't exist, takes as long as one made by Hash and never matches.
// Errors as Hash.
func (h *Hasher) Matches(ctx context.Context, password, hash string) (bool, error) {
	against := hash
	if hash == "" {
		against = h.decoy
	}
	p, err := parse(against)
	if err != nil {
		return false, fmt.Errorf("check password: %w", err)
	}
	done, err := h.acquire(ctx, p.slots())
	if err != nil {
		return false, err
	}
	defer done()
	ok, err := p.matches(password)
	if err != nil {
		return false, fmt.Errorf("check password: %w", err)
	}
	return ok && hash != "", nil
}

// NeedsRehash reports whether hash has another algorithm or other parameters than
// Hash uses.
func (h *Hasher) NeedsRehash(hash string) bool {
	p, err := parse(hash)
	return err == nil && (p.bcrypt || p.params != h.params)
}

// acquire waits for so many slots, or for all when there are fewer.
func (h *Hasher) acquire(ctx context.Context, slots int64) (done func(), err error) {
	slots = min(slots, h.slotCount)
	waiting, cancel := context.WithTimeout(ctx, slotTimeout)
	defer cancel()
	if err := h.slots.Acquire(waiting, slots); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, errs.Exhausted("PASSWORD_HASHING_BUSY", "too many sign-ins at once").After(time.Second)
	}
	return func() { h.slots.Release(slots) }, nil
}

func (p parsed) matches(password string) (bool, error) {
	if !p.bcrypt {
		return argon2id.ComparePasswordAndHash(password, p.hash)
	}
	err := bcrypt.CompareHashAndPassword([]byte(p.hash), []byte(password))
	if errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
		return false, nil
	}
	return err == nil, err
}
