// Package attempts bounds how often passwords may be tried.
//
// It promises: an attempt is charged before the password is looked at and
// given back when it was right, so that guesses in parallel can't slip by; an
// account and the address that tries are charged apart, so neither many
// accounts from one place nor one account from many is a way round; replicas
// count together, in Redis, by its clock.
//
// Limits: while Redis is away each replica counts for itself, with n of them up
// to n times as much. Somebody who fails on purpose keeps an account's owner
// out for as long.
//
// Source: the generic cell rate algorithm of ITU-T I.371, virtual scheduling.
package attempts

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"

	"github.com/purserhq/purser/pkg/errs"
)

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

// Bucket is what is charged: it takes PerMinute at once, and is refilled evenly
// over a minute.
type Bucket struct {
	Kind, Key string
	PerMinute int
}

// Every is how long one takes to be refilled.
func (b Bucket) Every() time.Duration { return time.Minute / time.Duration(b.PerMinute) }

// Shared is what replicas count together in.
type Shared interface {
	// Take charges one, or says how long until one would be there; its error
	// means that it can't tell. It is safe for concurrent use.
	Take(ctx context.Context, b Bucket) (giveBack func(), wait time.Duration, err error)
}

// Limiter counts attempts. It is safe for concurrent use.
type Limiter struct {
	policy Policy
	shared Shared
	local  *local
	alone  metric.Int64Counter
}

// New returns a limiter that counts in shared, and in this process by the clock
// now.
func New(p Policy, shared Shared, now func() time.Time) (*Limiter, error) {
	own, err := newLocal(now)
	if err != nil {
		return nil, err
	}
	l := &Limiter{policy: p, shared: shared, local: own}
	// An instrument that can't be made is a no-op one.
	l.alone, _ = otel.Meter("github.com/purserhq/purser/services/auth/attempts").Int64Counter(
		"auth_attempts_local_total",
		metric.WithDescription("Attempts that one replica counted alone, for Redis was away."))
	return l, nil
}

// Take charges an attempt from an address, on an account unless it is "".
// giveBack takes the charge back; call it at most once, when the attempt was
// right, or could not be judged. errs.Exhausted (TOO_MANY_ATTEMPTS) with when
// to try again, and nothing charged, past either bound.
func (l *Limiter) Take(ctx context.Context, address, account string) (giveBack func(), err error) {
	charges := []Bucket{{"address", address, l.policy.PerAddress}}
	if account != "" {
		charges = append(charges, Bucket{"account", account, l.policy.PerAccount})
	}
	var taken []func()
	giveBack = func() {
		for _, undo := range taken {
			undo()
		}
	}
	// In this process first: that is what holds while Redis is away, and keeps
	// a flood from Redis.
	for _, take := range []func(context.Context, Bucket) (func(), time.Duration){l.local.take, l.everywhere} {
		for _, b := range charges {
			undo, wait := take(ctx, b)
			if wait > 0 {
				giveBack()
				return nil, errs.Exhausted("TOO_MANY_ATTEMPTS", "too many attempts").After(wait)
			}
			taken = append(taken, undo)
		}
	}
	return giveBack, nil
}

// everywhere charges what replicas share, and nothing while that is away.
func (l *Limiter) everywhere(ctx context.Context, b Bucket) (giveBack func(), wait time.Duration) {
	giveBack, wait, err := l.shared.Take(ctx, b)
	if err != nil {
		l.alone.Add(ctx, 1)
		return func() {}, 0
	}
	return giveBack, wait
}
