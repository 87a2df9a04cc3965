package signing_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/auth/internal/signing"
)

// The harness turns a ring's keys over for hours of made-up time while tokens
// are signed and verified, by replicas whose clocks differ, that read the ring
// by turns and are cut off from it now and then, and by verifiers that know the
// set from whichever replica they asked last.

// rotating is a store in memory, with the rules that the database's statements
// have.
type rotating struct {
	now   func() time.Time
	epoch int64
	keys  []signing.Key
	// promotions counts the keys that became active.
	promotions int
}

func (r *rotating) Bootstrap(_ context.Context, _ string, first []signing.Key) error {
	if r.epoch > 0 {
		return nil
	}
	for _, k := range first {
		k.PublishedAt = r.now()
		if k.State == signing.Active {
			k.ActivatedAt = r.now()
		}
		r.keys = append(r.keys, k)
	}
	r.epoch = 1
	return nil
}

func (r *rotating) Load(context.Context, string) (signing.Reading, error) {
	var in []signing.Key
	for _, k := range r.keys {
		if k.State == signing.Standby || k.State == signing.Active || k.State == signing.Retiring {
			in = append(in, k)
		}
	}
	return signing.Reading{Epoch: r.epoch, Keys: in, Now: r.now()}, nil
}

func (r *rotating) Apply(_ context.Context, _ string, epoch int64, s signing.Step, fresh *signing.Key,
	p signing.Policy) error {
	if epoch != r.epoch {
		return signing.ErrEpochChanged
	}
	for i := range r.keys {
		k := &r.keys[i]
		switch k.KID {
		case s.Demote:
			k.State, k.RetiringAt = signing.Retiring, r.now()
		case s.Promote:
			if !s.PromotedEarly && r.now().Before(k.PublishedAt.Add(p.PropagationTime())) {
				return errors.New("too young")
			}
			k.State, k.ActivatedAt, k.PromotedEarly = signing.Active, r.now(), s.PromotedEarly
			r.promotions++
		}
		if slices.Contains(s.Erase, k.KID) {
			k.Sealed, k.Wrapped = nil, nil
		}
		if slices.Contains(s.Retire, k.KID) {
			k.State = signing.Retired
		}
	}
	r.keys = slices.DeleteFunc(r.keys, func(k signing.Key) bool { return k.State == signing.Retired })
	if fresh != nil {
		k := *fresh
		k.PublishedAt = r.now()
		r.keys = append(r.keys, k)
	}
	r.epoch++
	return nil
}

func (r *rotating) List(context.Context, string) ([]signing.Key, error) { return r.keys, nil }

func (r *rotating) RevokeKey(_ context.Context, _, kid string) error {
	for i := range r.keys {
		if k := &r.keys[i]; k.KID == kid && k.State != signing.Revoked {
			k.State, k.Sealed, k.Wrapped = signing.Revoked, nil, nil
			r.epoch++
		}
	}
	return nil
}

// revoked reports whether a token is of a key that was.
func (r *rotating) revoked(token string) bool {
	t, _, err := jwt.NewParser().ParseUnverified(token, jwt.MapClaims{})
	return err == nil && slices.ContainsFunc(r.keys,
		func(k signing.Key) bool { return k.KID == t.Header["kid"] && k.State == signing.Revoked })
}

// verifier knows the set that it fetched last.
type verifier struct {
	world  *world
	eager  bool       // refetches at half the max-age, and for an unknown key
	random *rand.Rand // of its own, so that a world repeats itself
	*authn.Verifier

	mu      sync.Mutex
	keys    map[string]authn.Key
	until   time.Time
	refresh time.Time
	asked   time.Time // for an unknown key
}

func (v *verifier) Key(_ context.Context, kid string) (authn.Key, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	k, ok := v.keys[kid]
	if !ok && v.eager && v.world.now.Sub(v.asked) >= 10*time.Second {
		v.asked = v.world.now
		v.fetch()
		k, ok = v.keys[kid]
	}
	if !ok {
		return authn.Key{}, authn.ErrUnknownKey
	}
	return k, nil
}

// fetch asks the replicas in any order until one has a set, as a client does that is answered UNAVAILABLE (503), and
// keeps what it knows when none has.
func (v *verifier) fetch() {
	for _, i := range v.random.Perm(len(v.world.replicas)) {
		set, ok := v.world.replicas[i].ring.Published()
		if !ok {
			continue
		}
		v.keys = map[string]authn.Key{}
		for _, k := range set.Keys {
			v.keys[k.KeyID] = authn.Key{Algorithm: k.Algorithm, Public: k.Key}
		}
		v.until, v.refresh = v.world.now.Add(set.MaxAge), v.world.now.Add(set.MaxAge/2)
		return
	}
}

// tick fetches when it is time: a stock verifier not before it has to.
func (v *verifier) tick() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.world.now.Before(v.until) || v.eager && !v.world.now.Before(v.refresh) {
		v.fetch()
	}
}

type replica struct {
	ring   *signing.Ring
	poll   time.Time
	cutOff time.Time // until then it can't read the ring
}

type world struct {
	t         *testing.T
	now       time.Time
	mu        sync.Mutex
	random    *rand.Rand
	store     *rotating
	rotator   *signing.Rotator
	replicas  []*replica
	verifiers []*verifier
	tokens    []signed
	policy    signing.Policy

	verified, failed, unsigned int
}

type signed struct {
	token   string
	expires time.Time
}

// compressed is a policy of seconds.
func compressed() signing.Policy {
	return signing.Policy{
		MaxAge: 20 * time.Second, Poll: 2 * time.Second, Lease: 5 * time.Second, Skew: 3 * time.Second,
		Period: 26 * time.Second, TokenTTL: 15 * time.Second,
	}
}

func newWorld(t *testing.T, rotation signing.Policy) *world {
	p := compressed()
	w := &world{t: t, now: time.Unix(1_800_000_000, 0), random: rand.New(rand.NewPCG(1, 1)), policy: p}
	w.store = &rotating{now: func() time.Time { return w.now }}
	seal, log := sealer(t, "kek"), slog.New(slog.DiscardHandler)
	w.rotator = signing.NewRotator(issuer, rotation, w.store, seal, log)
	for i, skew := range []time.Duration{0, p.Skew, -p.Skew} {
		r := &replica{ring: signing.NewRing(issuer, p, w.store, seal, log),
			poll: w.now.Add(time.Duration(i) * 700 * time.Millisecond)}
		r.ring.SetNow(func() time.Time { return w.now.Add(skew) })
		if err := r.ring.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.replicas = append(w.replicas, r)
	}
	for i := range testkit.Size(16, 64) {
		v := &verifier{world: w, eager: i%2 == 0, random: rand.New(rand.NewPCG(2, uint64(i)))}
		v.Verifier = authn.NewVerifier(v, authn.Options{Issuer: issuer, Leeway: p.Skew,
			Now: func() time.Time { return w.now }})
		v.until = w.now.Add(time.Duration(w.random.IntN(20_000)) * time.Millisecond)
		v.fetch()
		w.verifiers = append(w.verifiers, v)
	}
	return w
}

// second is a second of the world's time.
func (w *world) second(verifications int) {
	ctx := w.t.Context()
	w.now = w.now.Add(time.Second)
	if err := w.rotator.Rotate(ctx, false); err != nil {
		w.t.Fatal(err)
	}
	for _, r := range w.replicas {
		if w.random.IntN(200) == 0 { // one partition every few minutes, of up to a minute
			r.cutOff = w.now.Add(time.Duration(w.random.IntN(60)) * time.Second)
		}
		if !w.now.Before(r.poll) && !w.now.Before(r.cutOff) {
			r.poll = w.now.Add(w.policy.Poll)
			if err := r.ring.Refresh(ctx); err != nil {
				w.t.Fatal(err)
			}
		}
		token, expires, err := r.ring.Sign(claims(), w.policy.TokenTTL)
		if err != nil {
			w.unsigned++ // past its lease
			continue
		}
		w.tokens = append(w.tokens, signed{token, expires})
	}
	w.tokens = slices.DeleteFunc(w.tokens, func(s signed) bool { return !w.now.Before(s.expires) })
	var all sync.WaitGroup
	for part := range slices.Chunk(w.verifiers, len(w.verifiers)/2) {
		all.Go(func() {
			for _, v := range part {
				v.tick()
				for range verifications / len(w.verifiers) {
					w.verify(v)
				}
			}
		})
	}
	all.Wait()
}

// verify verifies one of the tokens that are valid now. There is none after all signers were cut off for as long as a
// token lives.
func (w *world) verify(v *verifier) {
	if len(w.tokens) == 0 {
		return
	}
	_, err := v.Verify(w.t.Context(), w.tokens[v.random.IntN(len(w.tokens))].token)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.verified++
	if err != nil {
		w.failed++
	}
}

func TestKeysRotateWithoutAnyVerifierNoticing(t *testing.T) {
	t.Parallel() // beside the test that waits for its servers
	rotations, verifications := testkit.Size(4, 220), testkit.Size(32, 1024)
	w := newWorld(t, compressed())
	for w.store.promotions < rotations {
		w.second(verifications)
	}
	if w.failed > 0 {
		t.Fatalf("%d of %d verifications failed over %d rotations", w.failed, w.verified, w.store.promotions)
	}
	testkit.Figure(t, "%d rotations, %d verifications by %d verifiers of tokens of 3 signers: 0 failed (%d times a "+
		"signer past its lease refused)",
		w.store.promotions, w.verified, len(w.verifiers), w.unsigned)
	t.Run("control: a key that signs as soon as it exists is not known everywhere", func(t *testing.T) {
		hasty := compressed()
		hasty.MaxAge, hasty.Poll, hasty.Skew = 0, 0, 0 // so that PropagationTime is at once
		hasty.Period = 10 * time.Second
		w := newWorld(t, hasty)
		for range testkit.Size(60, 600) {
			w.second(verifications)
		}
		if w.failed == 0 {
			t.Fatalf("%d verifications over %d rotations, and none failed: the harness proves nothing", w.verified,
				w.store.promotions)
		}
		testkit.Figure(t, "control: %d of %d verifications failed", w.failed, w.verified)
	})
}

func TestAReplicaWhoseClockIsTooFarOffStopsSigningAndSaysSo(t *testing.T) {
	w := newWorld(t, compressed())
	for _, skew := range []time.Duration{-2 * w.policy.Skew, 2 * w.policy.Skew} {
		ring := signing.NewRing(issuer, w.policy, w.store, sealer(t, "kek"), slog.New(slog.DiscardHandler))
		ring.SetNow(func() time.Time { return w.now.Add(skew) })
		if err := ring.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, _, err := ring.Sign(claims(), time.Second); reason(err) != "CLOCK_SKEWED" {
			t.Error(fmt.Sprint(skew), err)
		}
	}
}

// severed is a store that can't be reached while err is set.
type severed struct {
	*rotating
	err error
}

func (s *severed) Load(ctx context.Context, issuer string) (signing.Reading, error) {
	if s.err != nil {
		return signing.Reading{}, s.err
	}
	return s.rotating.Load(ctx, issuer)
}
