// Package password hashes and checks passwords with argon2id (RFC 9106) at
// 19 MiB, two passes and one lane (OWASP's parameters), in PHC strings.
//
// It promises that no more than a set number of hashes run at once: a caller
// over that is told to come back, so that a flood of logins takes no more
// memory than planned for.
package password

import (
	"context"
	"fmt"
	"time"

	"github.com/alexedwards/argon2id"
	"golang.org/x/sync/semaphore"

	"github.com/purserhq/purser/pkg/errs"
)

// MemoryKiB that one hash takes.
const MemoryKiB = 19 * 1024

// queue is how long a caller waits for a turn.
const queue = 500 * time.Millisecond

// Hasher hashes and checks passwords. It is safe for concurrent use.
type Hasher struct {
	turns  *semaphore.Weighted
	params argon2id.Params
	decoy  string
}

// New returns a hasher that runs at most this many hashes at once; each takes
// MemoryKiB.
func New(atOnce int) (*Hasher, error) {
	h := &Hasher{
		turns:  semaphore.NewWeighted(int64(atOnce)),
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
// (PASSWORD_HASHING_BUSY) when no turn came up in half a second.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	if err := h.turn(ctx); err != nil {
		return "", err
	}
	defer h.turns.Release(1)
	s, err := argon2id.CreateHash(password, &h.params)
	if err != nil {
		return "", fmt.Errorf("hash password: %w", err)
	}
	return s, nil
}

// Matches reports whether password is the one that hash was made of. An empty
// hash, for an account that doesn't exist, takes the same time and matches
// nothing. Errors as Hash.
func (h *Hasher) Matches(ctx context.Context, password, hash string) (bool, error) {
	if err := h.turn(ctx); err != nil {
		return false, err
	}
	defer h.turns.Release(1)
	against := hash
	if hash == "" {
		against = h.decoy
	}
	ok, err := argon2id.ComparePasswordAndHash(password, against)
	if err != nil {
		return false, fmt.Errorf("check password: %w", err)
	}
	return ok && hash != "", nil
}

func (h *Hasher) turn(ctx context.Context) error {
	waiting, cancel := context.WithTimeout(ctx, queue)
	defer cancel()
	if err := h.turns.Acquire(waiting, 1); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return errs.Exhausted("PASSWORD_HASHING_BUSY", "too many sign-ins at once").After(time.Second)
	}
	return nil
}
