// Package attempts limits how often passwords and other secrets can be guessed.
//
// It promises: an attempt is charged before the secret is checked and refunded
// when it was right, so that parallel guesses can't exceed the limit; the account
// and the client's address are charged separately, so that neither many accounts
// from one address nor one account from many addresses evades the limit; an address
// that many share is slowed down before it is refused, in turns by account; replicas
// count in Redis, by its clock.
//
// Limits: while Redis is unavailable each replica counts alone, so n replicas
// allow up to n times the limit. Failing on purpose uses up the attempts on an
// account: who is known from before has counts of their own (TakeOwn).
package attempts

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"

	"github.com/purserhq/purser/pkg/deadline"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/internal/bucket"
)

// Policy is the maximal number of failed attempts in a minute.
type Policy struct {
	PerAccount int `env:"ATTEMPTS_PER_ACCOUNT" envDefault:"5"`
	PerAddress int `env:"ATTEMPTS_PER_ADDRESS" envDefault:"60"`
}

// Validate returns every invalid setting of p as one error.
func (p Policy) Validate() error {
	if p.PerAccount < 1 || p.PerAddress < 1 {
		return errors.New("PURSER_ATTEMPTS_PER_ACCOUNT and PURSER_ATTEMPTS_PER_ADDRESS must be at least 1")
	}
	return nil
}

// Shared counts attempts for all replicas. It is safe for concurrent use.
type Shared interface {
	// Take charges one attempt; or, when the bucket is empty, charges nothing
	// and returns how long to wait. An error means that the count is unknown.
	Take(ctx context.Context, b bucket.Bucket) (refund func(), wait time.Duration, err error)
}

// Limiter counts attempts. It is safe for concurrent use.
type Limiter struct {
	policy    Policy
	shared    Shared
	local     *bucket.Local
	lines     *lines
	localOnly metric.Int64Counter
}

// New returns a limiter that counts in shared and, by the clock now, in this
// process.
func New(p Policy, shared Shared, now func() time.Time) (*Limiter, error) {
	own, err := bucket.NewLocal(now)
	if err != nil {
		return nil, err
	}
	l := &Limiter{policy: p, shared: shared, local: own, lines: newLines(own)}
	// An instrument that can't be made is a no-op one.
	l.localOnly, _ = otel.Meter("github.com/purserhq/purser/services/auth/attempts").Int64Counter(
		"auth_attempts_local_total",
		metric.WithDescription("Attempts that a replica counted alone because Redis was unavailable."))
	l.localOnly.Add(context.Background(), 0)
	return l, nil
}

// Take charges an attempt to an address and, unless it is "", to an account. Where the address has none left it waits
// for the next, up to five seconds, in turns with those for other accounts. refund undoes the charge; call it at most
// once, when the attempt was right or could not be checked. errs.Exhausted (TOO_MANY_ATTEMPTS), with when to retry,
// for the limit of the account, and for that of the address after the wait; then nothing is charged.
func (l *Limiter) Take(ctx context.Context, address, account string) (refund func(), err error) {
	end := time.Now().Add(maxWait)
	return l.take(ctx, account, func(b bucket.Bucket) (func(), time.Duration, error) {
		return l.lines.take(ctx, b, account)
	}, address, end)
}

// TryTake is Take without the wait.
func (l *Limiter) TryTake(ctx context.Context, address, account string) (refund func(), err error) {
	return l.take(ctx, account, func(b bucket.Bucket) (func(), time.Duration, error) {
		undo, wait := l.lines.try(ctx, b)
		return undo, wait, nil
	}, address, time.Time{})
}

// TakeOwn charges an attempt to a count of its own, as large as that of an account. Otherwise as TryTake.
func (l *Limiter) TakeOwn(ctx context.Context, kind, name string) (refund func(), err error) {
	var c charges
	b := bucket.Bucket{Kind: kind, Key: name, PerMinute: l.policy.PerAccount}
	for _, take := range []func(context.Context, bucket.Bucket) (func(), time.Duration){l.local.Take, l.takeShared} {
		if wait := c.add(take(ctx, b)); wait > 0 {
			return nil, c.refused(wait)
		}
	}
	return c.refund, nil
}

// take charges the account and then the address, in this process first, which protects Redis from floods, and is all
// there is while Redis is unavailable.
func (l *Limiter) take(ctx context.Context, account string, local func(bucket.Bucket) (func(), time.Duration, error),
	address string, end time.Time) (refund func(), err error) {
	var c charges
	ofAccount := bucket.Bucket{Kind: "account", Key: account, PerMinute: l.policy.PerAccount}
	ofAddress := bucket.Bucket{Kind: "address", Key: address, PerMinute: l.policy.PerAddress}
	if account != "" {
		if wait := c.add(l.local.Take(ctx, ofAccount)); wait > 0 {
			return nil, c.refused(wait)
		}
	}
	undo, wait, err := local(ofAddress)
	if err != nil {
		c.refund()
		return nil, err
	}
	if wait := c.add(undo, wait); wait > 0 {
		return nil, c.refused(wait)
	}
	if account != "" {
		if wait := c.add(l.takeShared(ctx, ofAccount)); wait > 0 {
			return nil, c.refused(wait)
		}
	}
	for {
		wait := c.add(l.takeShared(ctx, ofAddress))
		switch {
		case wait == 0:
			return c.refund, nil
		case time.Until(end) < wait: // replicas have used it up together
			return nil, c.refused(wait)
		}
		if deadline.Pause(ctx, wait) != nil {
			c.refund()
			return nil, ctx.Err()
		}
	}
}

// charges are what an attempt has been charged so far.
type charges struct{ undo []func() }

// add notes a charge, or returns how long to wait for it.
func (c *charges) add(undo func(), wait time.Duration) time.Duration {
	if wait == 0 {
		c.undo = append(c.undo, undo)
	}
	return wait
}

func (c *charges) refund() {
	for _, undo := range c.undo {
		undo()
	}
}

// refused gives everything back and returns the refusal.
func (c *charges) refused(wait time.Duration) error {
	c.refund()
	return errs.Exhausted("TOO_MANY_ATTEMPTS", "too many attempts from this address or for this "+
		"name; wait for the time in RetryInfo").After(wait)
}

// takeShared charges the bucket that all replicas share, and nothing while Redis
// is unavailable.
func (l *Limiter) takeShared(ctx context.Context, b bucket.Bucket) (refund func(), wait time.Duration) {
	refund, wait, err := l.shared.Take(ctx, b)
	if err != nil {
		l.localOnly.Add(ctx, 1)
		return func() {}, 0
	}
	return refund, wait
}
