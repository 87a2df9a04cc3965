// Package attempts limits how often passwords and other secrets can be guessed.
//
// It promises: an attempt is charged before the secret is checked and refunded
// when it was right, so that parallel guesses can't exceed the limit; the account
// and the client's address are charged separately, so that neither many accounts
// from one address nor one account from many addresses evades the limit; replicas
// count in Redis, by its clock.
//
// Limits: while Redis is unavailable each replica counts alone, so n replicas
// allow up to n times the limit. Failing on purpose can lock an account's owner
// out for as long as it continues.
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

// Bucket is a token bucket: it holds up to PerMinute attempts, and is refilled
// evenly over a minute. Kind and Key identify it.
type Bucket struct {
	Kind, Key string
	PerMinute int
}

// RefillInterval is how long it takes to refill one attempt.
func (b Bucket) RefillInterval() time.Duration { return time.Minute / time.Duration(b.PerMinute) }

// Shared counts attempts for all replicas. It is safe for concurrent use.
type Shared interface {
	// Take charges one attempt; or, when the bucket is empty, charges nothing
	// and returns how long to wait. An error means that the count is unknown.
	Take(ctx context.Context, b Bucket) (refund func(), wait time.Duration, err error)
}

// Limiter counts attempts. It is safe for concurrent use.
type Limiter struct {
	policy    Policy
	shared    Shared
	local     *local
	localOnly metric.Int64Counter
}

// New returns a limiter that counts in shared and, by the clock now, in this
// process.
func New(p Policy, shared Shared, now func() time.Time) (*Limiter, error) {
	own, err := newLocal(now)
	if err != nil {
		return nil, err
	}
	l := &Limiter{policy: p, shared: shared, local: own}
	// An instrument that can't be made is a no-op one.
	l.localOnly, _ = otel.Meter("github.com/purserhq/purser/services/auth/attempts").Int64Counter(
		"auth_attempts_local_total",
		metric.WithDescription("Attempts that a replica counted alone because Redis was unavailable."))
	return l, nil
}

// Take charges an attempt to an address and, unless it is "", to an account.
// refund undoes that; call it at most once, when the attempt was right or could
// not be checked. errs.Exhausted (TOO_MANY_ATTEMPTS), with when to retry, when
// either limit is reached; then nothing is charged.
func (l *Limiter) Take(ctx context.Context, address, account string) (refund func(), err error) {
	charges := []Bucket{{"address", address, l.policy.PerAddress}}
	if account != "" {
		charges = append(charges, Bucket{"account", account, l.policy.PerAccount})
	}
	var refunds []func()
	refund = func() {
		for _, undo := range refunds {
			undo()
		}
	}
	// The local limit is checked first. It protects Redis from floods, and is
	// the only one while Redis is unavailable.
	counters := []func(context.Context, Bucket) (func(), time.Duration){l.local.take, l.takeShared}
	for _, take := range counters {
		for _, b := range charges {
			undo, wait := take(ctx, b)
			if wait > 0 {
				refund()
				return nil, errs.Exhausted("TOO_MANY_ATTEMPTS", "too many attempts from this address or for this "+
					"name; wait for the time in RetryInfo").After(wait)
			}
			refunds = append(refunds, undo)
		}
	}
	return refund, nil
}

// takeShared charges the bucket that all replicas share, and nothing while Redis
// is unavailable.
func (l *Limiter) takeShared(ctx context.Context, b Bucket) (refund func(), wait time.Duration) {
	refund, wait, err := l.shared.Take(ctx, b)
	if err != nil {
		l.localOnly.Add(ctx, 1)
		return func() {}, 0
	}
	return refund, wait
}
