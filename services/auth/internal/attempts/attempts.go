// Package attempts bounds how often passwords may be tried.
//
// It promises: an attempt is charged before the password is looked at and
// given back when it was right, so that guesses in parallel can't slip by; an
// account and the address that tries are charged apart, so neither many
// accounts from one place nor one account from many is a way round.
//
// Limits: counted in this process; with n replicas up to n times as much.
// Somebody who fails on purpose keeps an account's owner out for as long.
package attempts

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/purserhq/purser/pkg/errs"
)

// remembered is how many accounts, and how many addresses, are kept apart.
const remembered = 100_000

// Policy is how many attempts may fail in a minute.
type Policy struct {
	PerAccount int `env:"ATTEMPTS_PER_ACCOUNT" envDefault:"5"`
	PerAddress int `env:"ATTEMPTS_PER_ADDRESS" envDefault:"60"`
}

// Validate reports every mistake in p.
func (p Policy) Validate() error {
	if p.PerAccount < 1 || p.PerAddress < 1 {
		return errors.New("PURSER_ATTEMPTS_PER_ACCOUNT and PURSER_ATTEMPTS_PER_ADDRESS must be at least 1")
	}
	return nil
}

// Limiter counts attempts. It is safe for concurrent use.
type Limiter struct {
	accounts, addresses buckets
	now                 func() time.Time
}

// New returns a limiter.
func New(p Policy, now func() time.Time) (*Limiter, error) {
	accounts, err := lru.New[string, *bucket](remembered)
	if err != nil {
		return nil, fmt.Errorf("attempts: %w", err)
	}
	addresses, err := lru.New[string, *bucket](remembered)
	if err != nil {
		return nil, fmt.Errorf("attempts: %w", err)
	}
	return &Limiter{accounts: buckets{accounts, p.PerAccount}, addresses: buckets{addresses, p.PerAddress}, now: now}, nil
}

// Take charges an attempt from an address, on an account unless it is "".
// giveBack takes the charge back; call it at most once, when the attempt was
// right, or could not be judged. errs.Exhausted (TOO_MANY_ATTEMPTS) with when
// to try again, and nothing charged, past either bound.
func (l *Limiter) Take(ctx context.Context, address, account string) (giveBack func(), err error) {
	now := l.now()
	place, wait := l.addresses.take(address, now)
	if wait > 0 {
		return nil, tooMany(wait)
	}
	if account == "" {
		return place, nil
	}
	name, wait := l.accounts.take(account, now)
	if wait > 0 {
		place()
		return nil, tooMany(wait)
	}
	return func() {
		place()
		name()
	}, nil
}

func tooMany(wait time.Duration) error {
	return errs.Exhausted("TOO_MANY_ATTEMPTS", "too many attempts").After(wait)
}

// buckets of one kind, each refilled evenly over a minute.
type buckets struct {
	byKey     *lru.Cache[string, *bucket]
	perMinute int
}

// take charges one, or says how long until one would be there.
func (b buckets) take(key string, now time.Time) (giveBack func(), wait time.Duration) {
	fresh := &bucket{}
	found, known, _ := b.byKey.PeekOrAdd(key, fresh)
	if known {
		b.byKey.Get(key) // it was used: keep it
	} else {
		found = fresh
	}
	every := time.Minute / time.Duration(b.perMinute)
	if wait := found.take(now, every, b.perMinute); wait > 0 {
		return nil, wait
	}
	return func() { found.giveBack(every) }, 0
}

// bucket is a virtual scheduling one (GCRA, ITU-T I.371). A reservation of
// x/time/rate would not do: what it restores is less the more were made since.
type bucket struct {
	mu   sync.Mutex
	full time.Time // when everything will have been refilled
}

func (b *bucket) take(now time.Time, every time.Duration, size int) (wait time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	full := b.full
	if full.Before(now) {
		full = now
	}
	full = full.Add(every)
	if wait := full.Sub(now) - every*time.Duration(size); wait > 0 {
		return wait
	}
	b.full = full
	return 0
}

func (b *bucket) giveBack(every time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.full = b.full.Add(-every)
}
