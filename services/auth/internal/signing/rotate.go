package signing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"

	"github.com/purserhq/purser/pkg/errs"
)

// ErrEpoch says that the ring has changed since it was read.
var ErrEpoch = errors.New("signing: the ring is at another epoch")

// stepsAtOnce bounds what one call of Rotate does: after a compromise and a
// long pause two steps are due.
const stepsAtOnce = 5

// RotationStore is a Store whose ring can be changed.
type RotationStore interface {
	Store
	// Apply makes a step's transitions and raises the epoch, in one
	// transaction under the ring's lock. It fails with ErrEpoch when the epoch
	// is another, and when a key is not in the state that the step needs or is
	// promoted before p allows. fresh is the key that the step creates.
	Apply(ctx context.Context, issuer string, epoch int64, s Step, fresh *Key, p Policy) error
	// List returns the issuer's keys in every state, newest first.
	List(ctx context.Context, issuer string) ([]Key, error)
	// Compromise marks a key, erases its private half and raises the epoch.
	// errs.NotFound when the ring has no such key; no error when it was marked
	// before.
	Compromise(ctx context.Context, issuer, kid string) error
}

// Rotator changes the ring when something is due. Any number may run at once,
// in any number of replicas: the epoch lets one of them make each step. It is
// safe for concurrent use.
type Rotator struct {
	issuer string
	policy Policy
	store  RotationStore
	sealer *Sealer
	log    *slog.Logger
	notify func()
	cache  Cache // nil for none

	rotations, retirements, failed, invalidated, uninvalidated metric.Int64Counter
}

// NewRotator returns a rotator for issuer's ring.
func NewRotator(issuer string, p Policy, store RotationStore, sealer *Sealer, log *slog.Logger) *Rotator {
	r := &Rotator{issuer: issuer, policy: p, store: store, sealer: sealer, log: log, notify: func() {}}
	meter := otel.Meter(meterName)
	// An instrument that can't be made is a no-op one.
	r.rotations, _ = meter.Int64Counter("jwt_key_rotations_total",
		metric.WithDescription("Keys that became the active one."))
	r.retirements, _ = meter.Int64Counter("jwt_key_retirements_total",
		metric.WithDescription("Keys that left the set."))
	r.failed, _ = meter.Int64Counter("jwt_key_rotation_errors_total",
		metric.WithDescription("Attempts to rotate that failed."))
	r.invalidated, _ = meter.Int64Counter("jwt_jwks_cache_invalidations_total",
		metric.WithDescription("Key sets of an old epoch that were removed from the cache."))
	r.uninvalidated, _ = meter.Int64Counter("jwt_jwks_cache_invalidation_errors_total",
		metric.WithDescription("Key sets of an old epoch that could not be removed from the cache."))
	return r
}

// Notify has changed called when this process has changed the ring, before any
// use of the Rotator; it must not wait.
func (r *Rotator) Notify(changed func()) { r.notify = changed }

// Rotate makes what is due of the ring. forced promotes the standby before the
// active key's period is over; errs.FailedPrecondition (KEY_TOO_YOUNG) when not
// every verifier can know it yet.
func (r *Rotator) Rotate(ctx context.Context, forced bool) error {
	err := r.rotate(ctx, forced)
	if err != nil && errs.As(err) == nil {
		r.failed.Add(ctx, 1)
	}
	return err
}

func (r *Rotator) rotate(ctx context.Context, forced bool) error {
	for range stepsAtOnce {
		reading, err := r.store.Load(ctx, r.issuer)
		if err != nil {
			return err
		}
		if reading.Epoch == 0 { // whoever signs makes the first keys
			return nil
		}
		step := Plan(reading.Keys, reading.Now, r.policy, forced)
		if forced && step.Promote == "" {
			return errs.FailedPrecondition("KEY_TOO_YOUNG",
				fmt.Sprintf("the next key is not known to every verifier before %s",
					step.Next.UTC().Format(time.RFC3339)))
		}
		if !step.Due() {
			return nil
		}
		switch err := r.take(ctx, reading.Epoch, step); {
		case errors.Is(err, ErrEpoch): // another has made it, or the next
			continue
		case err != nil:
			return err
		}
		forced = false
	}
	return nil
}

// Share has the rotator remove the key sets of old epochs from c. Call it
// before the rotator is used.
func (r *Rotator) Share(c Cache) { r.cache = c }

// invalidate removes the key set of an epoch that is over. Where that fails it
// ends by itself, and is taken for no other's: the epoch is in its key.
func (r *Rotator) invalidate(ctx context.Context, epoch int64) {
	if r.cache == nil {
		return
	}
	if err := r.cache.Delete(ctx, r.issuer, epoch); err != nil {
		r.uninvalidated.Add(ctx, 1)
		return
	}
	r.invalidated.Add(ctx, 1)
}

func (r *Rotator) take(ctx context.Context, epoch int64, s Step) error {
	var fresh *Key
	if s.Create {
		k, err := generate(r.sealer, r.issuer, Published, r.policy.algorithm())
		if err != nil {
			return err
		}
		fresh = &k
	}
	if err := r.store.Apply(ctx, r.issuer, epoch, s, fresh, r.policy); err != nil {
		return err
	}
	r.notify()
	r.invalidate(ctx, epoch)
	attributes := []any{"epoch", epoch + 1}
	if s.Promote != "" {
		r.rotations.Add(ctx, 1)
		attributes = append(attributes, "active", s.Promote, "waived", s.Waived)
	}
	if len(s.Retire) > 0 {
		r.retirements.Add(ctx, int64(len(s.Retire)))
		attributes = append(attributes, "retired", s.Retire)
	}
	if fresh != nil {
		attributes = append(attributes, "standby", fresh.KID)
	}
	r.log.InfoContext(ctx, "signing keys changed", attributes...)
	return nil
}

// Revoke takes a compromised key out of the set at once, and makes the standby
// active if it was the active one, however young it is. errs.NotFound when the
// ring has no such key.
func (r *Rotator) Revoke(ctx context.Context, kid string) error {
	before, err := r.store.Load(ctx, r.issuer)
	if err != nil {
		return err
	}
	if err := r.store.Compromise(ctx, r.issuer, kid); err != nil {
		return err
	}
	r.notify()
	r.invalidate(ctx, before.Epoch)
	r.log.WarnContext(ctx, "signing key revoked", "kid", kid)
	return r.Rotate(ctx, false)
}

// Overview is the ring for those who run it.
type Overview struct {
	Epoch int64
	Keys  []Key // in every state, newest first
	Next  time.Time
}

// Overview reads the ring.
func (r *Rotator) Overview(ctx context.Context) (Overview, error) {
	reading, err := r.store.Load(ctx, r.issuer)
	if err != nil {
		return Overview{}, err
	}
	keys, err := r.store.List(ctx, r.issuer)
	if err != nil {
		return Overview{}, err
	}
	return Overview{reading.Epoch, keys, Plan(reading.Keys, reading.Now, r.policy, false).Next}, nil
}
