// Package password hashes and checks passwords with argon2id (RFC 9106) at
// 19 MiB, two passes and one lane (OWASP's parameters), in PHC strings, and
// knows which are not to be taken.
//
// It promises: no more hashes run at once than a set number of 19 MiB: a caller
// over that is told to come back, so that a flood of logins takes no more
// memory than planned for. Hashes of bcrypt, and of argon2id with other
// parameters, are checked too, and told to be outdated.
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

// MemoryKiB that one hash takes.
const MemoryKiB = 19 * 1024

// queue is how long a caller waits for a turn.
const queue = 500 * time.Millisecond

// Hasher hashes and checks passwords. It is safe for concurrent use.
type Hasher struct {
	turns  *semaphore.Weighted
	atOnce int64
	params argon2id.Params
	decoy  string
}

// New returns a hasher that runs at most this many hashes at once; each takes
// MemoryKiB.
func New(atOnce int) (*Hasher, error) {
	h := &Hasher{
		turns: semaphore.NewWeighted(int64(atOnce)), atOnce: int64(atOnce),
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
	done, err := h.turn(ctx, 1)
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

// Matches reports whether password is the one that hash was made of. An empty
// hash, for an account that doesn't exist, takes the same time as one of ours
// and matches nothing. Errors as Hash.
func (h *Hasher) Matches(ctx context.Context, password, hash string) (bool, error) {
	against := hash
	if hash == "" {
		against = h.decoy
	}
	p, err := parse(against)
	if err != nil {
		return false, fmt.Errorf("check password: %w", err)
	}
	done, err := h.turn(ctx, p.turns())
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

// Outdated reports whether hash is not as Hash would make it now.
func (h *Hasher) Outdated(hash string) bool {
	p, err := parse(hash)
	return err == nil && (p.bcrypt || p.params != h.params)
}

// turn waits for so many turns, or all that there are.
func (h *Hasher) turn(ctx context.Context, turns int64) (done func(), err error) {
	turns = min(turns, h.atOnce)
	waiting, cancel := context.WithTimeout(ctx, queue)
	defer cancel()
	if err := h.turns.Acquire(waiting, turns); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, errs.Exhausted("PASSWORD_HASHING_BUSY", "too many sign-ins at once").After(time.Second)
	}
	return func() { h.turns.Release(turns) }, nil
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
