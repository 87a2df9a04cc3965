// Package password hashes and checks passwords with argon2id (RFC 9106; 19 MiB,
// two passes and one lane as OWASP recommends) in PHC strings, and recognizes
// breached passwords.
//
// It promises: the memory and the processors that concurrent hashes take are bounded.
// They are divided into slots of MemoryKiB, fewer than the processors. Callers get slots
// in turn by where they come from, those last that have sent a wrong password; a
// call that gets none within five seconds, or finds the queue full, fails with
// errs.Exhausted. With UseProcess a process of low priority hashes. So a flood of
// logins can't exhaust memory, slow down other calls, or keep out those who sign in from
// elsewhere. Hashes of bcrypt, and of argon2id with other parameters, are checked too,
// and reported by NeedsRehash.
//
// Passwords are hashed in one form, however they are typed (see Normalize).
//
// Limits: parameters of stored hashes are bounded, see parse.
package password

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"

	"github.com/alexedwards/argon2id"
	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

// MemoryKiB is the memory of one hash, and the size of a slot.
const MemoryKiB = 19 * 1024

// parameters of Hash.
func parameters() *argon2id.Params {
	return &argon2id.Params{Memory: MemoryKiB, Iterations: 2, Parallelism: 1, SaltLength: 16, KeyLength: 32}
}

// cheapParameters make a hash a thousand times cheaper; see Hasher.UseCheapHashes.
func cheapParameters() *argon2id.Params {
	p := parameters()
	p.Memory, p.Iterations = 64, 1
	return p
}

// Hasher hashes and checks passwords. It is safe for concurrent use.
type Hasher struct {
	queue   *queue
	source  func(context.Context) string
	hashing hashing
	worker  *worker // nil without UseProcess
	decoy   string
	params  argon2id.Params
}

// hashing hashes and compares passwords in their normal form.
type hashing interface {
	hash(password string) (string, error)
	compare(p parsed, password string) (bool, error)
}

// here hashes in this process.
type here struct{ params argon2id.Params }

func (h here) hash(password string) (string, error) { return argon2id.CreateHash(password, &h.params) }

func (here) compare(p parsed, password string) (bool, error) { return p.matches(password) }

// New returns a hasher with slots of MemoryKiB. source says where a call comes from, such
// as the client's address: sources get slots in turn.
func New(slots int, source func(context.Context) string) *Hasher {
	h := &Hasher{queue: newQueue(int64(slots)), source: source}
	h.hashHere(parameters())
	return h
}

// UseCheapHashes makes hashes that are as quick to guess as to make: for tests of what is not about hashing. Call it
// before the first hash, and not with UseProcess.
func (h *Hasher) UseCheapHashes() { h.hashHere(cheapParameters()) }

func (h *Hasher) hashHere(params *argon2id.Params) {
	h.params, h.hashing, h.decoy = *params, here{*params}, decoyOf(params)
}

// decoyOf returns what looks like a hash with these parameters, of a key and a salt that are random: no password is
// known to have it, and a comparison takes as long as with a hash. A hash would cost a start its time.
func decoyOf(p *argon2id.Params) string {
	random := make([]byte, p.SaltLength+p.KeyLength)
	_, _ = rand.Read(random) // never fails
	text := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, p.Memory, p.Iterations, p.Parallelism,
		text(random[:p.SaltLength]), text(random[p.SaltLength:]))
}

// UseProcess hashes in a process of low priority, so that a flood of passwords hardly takes processors that others
// need, and its memory is not this one's. It is this program, started with no part of its environment at the first
// hash. Where none can be started, this process hashes, and a warning is logged. Call it before the first hash; Close
// ends the process.
func (h *Hasher) UseProcess(log *slog.Logger) {
	reserveMemory(h.queue.size)
	h.worker = &worker{slots: int(h.queue.size), log: log}
	h.hashing = h.worker
}

// Close ends the process of UseProcess; hashes fail from then on.
func (h *Hasher) Close() {
	if h.worker != nil {
		h.worker.close()
	}
}

// Hash returns the PHC string of a password in its normal form. errs.Invalid on password when it has none;
// errs.Exhausted (PASSWORD_HASHING_BUSY) when no slot became free within five seconds, or too many calls wait.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	normal, err := Normalize("password", password)
	if err != nil {
		return "", err
	}
	done, err := h.queue.acquire(ctx, h.source(ctx), 1)
	if err != nil {
		return "", err
	}
	defer done()
	s, err := h.hashing.hash(normal)
	if err != nil {
		return "", fmt.Errorf("hash password: %w", err)
	}
	return s, nil
}

// Matches reports whether hash is a hash of password; see Check.
func (h *Hasher) Matches(ctx context.Context, password, hash string) (bool, error) {
	ok, _, err := h.Check(ctx, password, hash)
	return ok, err
}

// Check reports whether hash is a hash of password, and whether it is an outdated one: of a form of the password that
// is not the normal one, or as NeedsRehash says. A password whose forms differ is tried in the normal form first and
// then as it was typed, each in a turn of its own, so that the second costs whoever sends it and nobody else.
//
// An empty hash, for an account that doesn't exist, takes as long as one made by Hash and never matches: a password
// that is wrong is tried in every form, whatever the hash. Errors as Hash, except errs.Invalid.
func (h *Hasher) Check(ctx context.Context, password, hash string) (ok, outdated bool, err error) {
	against := hash
	if hash == "" {
		against = h.decoy
	}
	p, err := parse(against)
	if err != nil {
		return false, false, fmt.Errorf("check password: %w", err)
	}
	var source string
	for i, form := range forms(password) {
		source = h.source(ctx)
		ok, err := h.compare(ctx, source, p, form)
		if err != nil {
			return false, false, err
		}
		if ok && hash != "" {
			normal := i == 0
			return true, !normal || h.NeedsRehash(hash), nil
		}
	}
	h.queue.failed(source)
	return false, false, nil
}

func (h *Hasher) compare(ctx context.Context, source string, p parsed, form string) (bool, error) {
	done, err := h.queue.acquire(ctx, source, p.slots())
	if err != nil {
		return false, err
	}
	defer done()
	ok, err := h.hashing.compare(p, form)
	if err != nil {
		return false, fmt.Errorf("check password: %w", err)
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
