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
	"github.com/purserhq/purser/services/internal/seal"
)

// ErrEpochChanged says that the ring has changed since it was read.
var ErrEpochChanged = errors.New("signing: the ring is at another epoch")

// maxStepsPerCall bounds the steps that one call of Rotate makes. More than one
// is due after a key was revoked, or when no rotator ran for a while.
const maxStepsPerCall = 5

// RotationStore is a Store whose ring can be changed.
type RotationStore interface {
	Store
	// Apply makes a step's transitions and raises the epoch, in one
	// transaction under the ring's lock. It fails with ErrEpochChanged when the
	// ring is no longer at epoch, and with another error when a key is not in
	// the state that the step needs, or is promoted before p allows. created is
	// the new standby, nil unless the step creates one.
	Apply(ctx context.Context, issuer string, epoch int64, s Step, created *Key, p Policy) error
	// List returns the issuer's keys in every state, newest first.
	List(ctx context.Context, issuer string) ([]Key, error)
	// RevokeKey marks a key as REVOKED, erases its private half and raises the
	// epoch; it does nothing to a key that is REVOKED already.
	// errs.NotFound when the ring has no such key.
	RevokeKey(ctx context.Context, issuer, kid string) error
}

// Rotator makes the steps of a ring that are due (see NextStep). Rotators of
// several replicas may run concurrently: the epoch, compared under the ring's
// lock, lets only one of them make each step. It is safe for concurrent use.
type Rotator struct {
	issuer   string
	policy   Policy
	store    RotationStore
	sealer   *seal.Sealer
	log      *slog.Logger
	onChange func()
	cache    Cache // nil for none

	rotations, retirements, failed, invalidated, invalidationErrors metric.Int64Counter
}

// NewRotator returns a rotator for issuer's ring.
func NewRotator(issuer string, p Policy, store RotationStore, sealer *seal.Sealer, log *slog.Logger) *Rotator {
	r := &Rotator{issuer: issuer, policy: p, store: store, sealer: sealer, log: log, onChange: func() {}}
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
	r.invalidationErrors, _ = meter.Int64Counter("jwt_jwks_cache_invalidation_errors_total",
		metric.WithDescription("Key sets of an old epoch that could not be removed from the cache."))
	for _, c := range []metric.Int64Counter{r.rotations, r.retirements, r.failed, r.invalidated,
		r.invalidationErrors} {
		c.Add(context.Background(), 0) // so that the first one is an increase
	}
	return r
}

// OnChange sets a function that is called after each change that this Rotator
// made. It must not block. Call OnChange before the Rotator is used.
func (r *Rotator) OnChange(f func()) { r.onChange = f }

// Rotate makes the steps that are due. forced promotes the standby before the
// active key's Period is over; errs.FailedPrecondition (KEY_TOO_YOUNG) when the
// standby was published less than PropagationTime ago.
func (r *Rotator) Rotate(ctx context.Context, forced bool) error {
	err := r.rotate(ctx, forced)
	if err != nil && errs.As(err) == nil {
		r.failed.Add(ctx, 1)
	}
	return err
}

func (r *Rotator) rotate(ctx context.Context, forced bool) error {
	for range maxStepsPerCall {
		reading, err := r.store.Load(ctx, r.issuer)
		if err != nil {
			return err
		}
		if reading.Epoch == 0 { // Ring.Refresh creates the first keys
			return nil
		}
		step := NextStep(reading.Keys, reading.Now, r.policy, forced)
		if forced && step.Promote == "" {
			return errs.FailedPrecondition("KEY_TOO_YOUNG",
				fmt.Sprintf("the next key is not known to every verifier before %s",
					step.NextDueAt.UTC().Format(time.RFC3339)))
		}
		if !step.Due() {
			return nil
		}
		switch err := r.apply(ctx, reading.Epoch, step); {
		case errors.Is(err, ErrEpochChanged): // another rotator was faster
			continue
		case err != nil:
			return err
		}
		forced = false
	}
	return nil
}

// UseCache makes the Rotator delete the key set of an old epoch from c. Call it
// before the Rotator is used.
func (r *Rotator) UseCache(c Cache) { r.cache = c }

// invalidate deletes the key set of an old epoch from the cache. A failure does
// no harm: the set expires, and its cache key names the epoch.
func (r *Rotator) invalidate(ctx context.Context, epoch int64) {
	if r.cache == nil {
		return
	}
	if err := r.cache.Delete(ctx, r.issuer, epoch); err != nil {
		r.invalidationErrors.Add(ctx, 1)
		return
	}
	r.invalidated.Add(ctx, 1)
}

// apply makes one step, and generates the key that it creates.
func (r *Rotator) apply(ctx context.Context, epoch int64, s Step) error {
	var created *Key
	if s.CreateStandby {
		k, err := generate(r.sealer, r.issuer, Standby, r.policy.algorithm())
		if err != nil {
			return err
		}
		created = &k
	}
	if err := r.store.Apply(ctx, r.issuer, epoch, s, created, r.policy); err != nil {
		return err
	}
	r.onChange()
	r.invalidate(ctx, epoch)
	attributes := []any{"epoch", epoch + 1}
	if s.Promote != "" {
		r.rotations.Add(ctx, 1)
		attributes = append(attributes, "active", s.Promote, "promoted_early", s.PromotedEarly)
	}
	if len(s.Retire) > 0 {
		r.retirements.Add(ctx, int64(len(s.Retire)))
		attributes = append(attributes, "retired", s.Retire)
	}
	if created != nil {
		attributes = append(attributes, "standby", created.KID)
	}
	r.log.InfoContext(ctx, "signing keys changed", attributes...)
	return nil
}

// Revoke removes a compromised key from the set immediately. If it was the
// active key, the standby is promoted, even before PropagationTime.
// errs.NotFound when the ring has no such key.
func (r *Rotator) Revoke(ctx context.Context, kid string) error {
	before, err := r.store.Load(ctx, r.issuer)
	if err != nil {
		return err
	}
	if err := r.store.RevokeKey(ctx, r.issuer, kid); err != nil {
		return err
	}
	r.onChange()
	r.invalidate(ctx, before.Epoch)
	r.log.WarnContext(ctx, "signing key revoked", "kid", kid)
	return r.Rotate(ctx, false)
}

// Overview is the state of the ring, for operators.
type Overview struct {
	Epoch int64
	Keys  []Key // in every state, newest first
	// NextStepAt is Step.NextDueAt.
	NextStepAt time.Time
}

// Overview returns the state of the ring.
func (r *Rotator) Overview(ctx context.Context) (Overview, error) {
	reading, err := r.store.Load(ctx, r.issuer)
	if err != nil {
		return Overview{}, err
	}
	keys, err := r.store.List(ctx, r.issuer)
	if err != nil {
		return Overview{}, err
	}
	return Overview{reading.Epoch, keys, NextStep(reading.Keys, reading.Now, r.policy, false).NextDueAt}, nil
}
