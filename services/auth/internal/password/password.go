// Package password hashes and checks passwords with argon2id (RFC 9106; 19 MiB,
// two passes and one lane as OWASP recommends) in PHC strings, and recognizes
// breached passwords.
//
// It promises: the memory and the processors that concurrent hashes take are bounded.
// They are divided into slots of MemoryKiB, fewer than the processors. Callers get slots
// in turn by where they come from, those last that have sent a wrong password; a
// call that gets none within five seconds, or finds the queue full, fails with
// errs.Exhausted. So a flood of logins can't exhaust memory,
// slow down other calls, or keep out those who sign in from elsewhere. Hashes of bcrypt,
// and of argon2id with other parameters, are checked too, and reported by
// NeedsRehash.
//
// Limits: parameters of stored hashes are bounded, see parse.
package password

import (
	"context"
	"errors"
	"fmt"

	"github.com/alexedwards/argon2id"
	"golang.org/x/crypto/bcrypt"
)

// MemoryKiB is the memory of one hash, and the size of a slot.
const MemoryKiB = 19 * 1024

// Hasher hashes and checks passwords. It is safe for concurrent use.
type Hasher struct {
	queue  *queue
	source func(context.Context) string
	params argon2id.Params
	decoy  string
}

// New returns a hasher with slots of MemoryKiB. source says where a call comes from, such
// as the client's address: sources get slots in turn.
func New(slots int, source func(context.Context) string) (*Hasher, error) {
	h := &Hasher{
		queue: newQueue(int64(slots)), source: source,
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
// (PASSWORD_HASHING_BUSY) when no slot became free within five seconds, or
// too many calls wait.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	done, err := h.queue.acquire(ctx, h.source(ctx), 1)
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
	source := h.source(ctx)
	done, err := h.queue.acquire(ctx, source, p.slots())
	if err != nil {
		return false, err
	}
	defer done()
	ok, err := p.matches(password)
	if err != nil {
		return false, fmt.Errorf("check password: %w", err)
	}
	if ok = ok && hash != ""; !ok {
		h.queue.failed(source)
	}
	return ok, nil
}

// NeedsRehash reports whether hash has another algorithm or other parameters than
// Hash uses.
func (h *Hasher) NeedsRehash(hash string) bool {
	p, err := parse(hash)
	return err == nil && (p.bcrypt || p.params != h.params)
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
