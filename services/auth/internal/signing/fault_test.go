package signing_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/auth/internal/signing"
)

// fault is what happens to a transaction.
type fault int

const (
	none    fault = iota
	crashed       // before its commit
	ackLost       // after its commit, whose acknowledgement is lost
)

var errFault = errors.New("the connection is gone")

// faulty is a store whose transactions meet the faults that a test draws.
type faulty struct {
	*rotating
	draw func() fault
}

func (f *faulty) tx(do func() error) error {
	switch f.draw() {
	case crashed:
		return errFault
	case ackLost:
		if err := do(); err != nil {
			return err
		}
		return errFault
	}
	return do()
}

func (f *faulty) Bootstrap(ctx context.Context, issuer string, first []signing.Key) error {
	return f.tx(func() error { return f.rotating.Bootstrap(ctx, issuer, first) })
}

func (f *faulty) Apply(ctx context.Context, issuer string, epoch int64, s signing.Step, fresh *signing.Key,
	p signing.Policy) error {
	return f.tx(func() error { return f.rotating.Apply(ctx, issuer, epoch, s, fresh, p) })
}

func (f *faulty) RevokeKey(ctx context.Context, issuer, kid string) error {
	return f.tx(func() error { return f.rotating.RevokeKey(ctx, issuer, kid) })
}

// invariants checks what has to hold of a ring at every moment.
func (r *rotating) invariants(t *rapid.T, p signing.Policy) {
	active := 0
	for _, k := range r.keys {
		switch {
		case k.State == signing.Active:
			active++
			if young := k.ActivatedAt.Before(k.PublishedAt.Add(p.PropagationTime())); young && !k.PromotedEarly &&
				!k.ActivatedAt.Equal(k.PublishedAt) {
				t.Fatalf("%s signs and is too young (I1)", k.KID)
			}
			if len(k.Sealed) == 0 {
				t.Fatalf("%s signs and is erased", k.KID)
			}
		case k.State == signing.Revoked && len(k.Sealed) > 0:
			t.Fatalf("%s is revoked and not erased", k.KID)
		}
	}
	if active > 1 {
		t.Fatalf("%d keys are active (I3)", active)
	}
}

// A history of rotations, revocations and restarts of which any transaction may
// crash and any acknowledgement be lost.
func TestNoCrashAndNoLostAcknowledgementBreaksTheRing(t *testing.T) {
	p, seal := compressed(), sealer(t, "kek")
	faults := 0
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1_800_000_000, 0)
		memory := &rotating{now: func() time.Time { return now }}
		f := &faulty{memory, func() fault {
			drawn := rapid.SampledFrom([]fault{none, none, crashed, ackLost}).Draw(t, "fault")
			if drawn != none {
				faults++
			}
			return drawn
		}}
		log := slog.New(slog.DiscardHandler)
		rotator := signing.NewRotator(issuer, p, f, seal, log)
		ring := func() *signing.Ring {
			r := signing.NewRing(issuer, p, f, seal, log)
			r.SetNow(func() time.Time { return now })
			return r
		}
		r := ring()
		ctx := context.Background()
		var tokens []signed
		var epoch int64
		for range rapid.IntRange(1, testkit.Size(25, 80)).Draw(t, "events") {
			now = now.Add(time.Duration(rapid.IntRange(0, 15).Draw(t, "later")) * time.Second)
			switch rapid.IntRange(0, 9).Draw(t, "event") {
			case 0:
				if set, ok := r.Published(); ok {
					k := rapid.SampledFrom(set.Keys).Draw(t, "revoked")
					_ = rotator.Revoke(ctx, k.KeyID) // it may fail, and then is asked for again by who wanted it
				}
			case 1:
				r = ring() // a restart
			default:
				_ = rotator.Rotate(ctx, rapid.Bool().Draw(t, "forced"))
			}
			_ = r.Refresh(ctx)
			memory.invariants(t, p)
			if memory.epoch < epoch {
				t.Fatalf("epoch %d after %d", memory.epoch, epoch)
			}
			epoch = memory.epoch
			if set, ok := r.Published(); ok && len(set.Keys) == 0 {
				t.Fatal("an empty set is published (I5)")
			}
			if token, expires, err := r.Sign(claims(), p.TokenTTL); err == nil {
				tokens = append(tokens, signed{token, expires})
			}
			fresh := ring()
			if fresh.Refresh(ctx) != nil {
				continue
			}
			v := authn.NewVerifier(fresh, authn.Options{Issuer: issuer, Leeway: p.Skew,
				Now: func() time.Time { return now }})
			for _, tk := range tokens {
				_, err := v.Verify(ctx, tk.token)
				if now.Before(tk.expires) && err != nil && !memory.revoked(tk.token) {
					t.Fatalf("a token that is good is refused (I2): %v", err)
				}
			}
			tokens = slices.DeleteFunc(tokens, func(s signed) bool { return !now.Before(s.expires) })
		}
		f.draw = func() fault { return none }
		_ = r.Refresh(ctx) // which fails when every key was revoked
		if err := errors.Join(rotator.Rotate(ctx, false), r.Refresh(ctx)); err != nil {
			t.Fatalf("it doesn't recover: %v", err)
		}
		if _, _, err := r.Sign(claims(), p.TokenTTL); err != nil {
			t.Fatalf("nothing signs afterwards: %v", err)
		}
	})
	testkit.Figure(t, "%d transactions crashed or lost their acknowledgement: "+
		"the invariants held, and each ring recovered", faults)
}

// behind is how old at most the set is that verifiers of a publisher hold, when
// that is cut off at some moment and they keep what they get for maxAge.
func behind(t *testing.T, maxAge func(signing.KeySet) time.Duration) (oldest time.Duration) {
	t.Helper()
	r, _, c := ready(t)
	read := c.at
	for c.at.Sub(read) < 2*policy().MaxAge {
		if set, ok := r.Published(); ok {
			oldest = max(oldest, c.at.Add(maxAge(set)).Sub(read))
		}
		c.at = c.at.Add(time.Second)
	}
	return oldest
}

func TestNoVerifierOfAPublisherThatIsCutOffIsBehindByMoreThanTheMaxAge(t *testing.T) {
	got := behind(t, func(s signing.KeySet) time.Duration { return s.MaxAge })
	if most := policy().MaxAge + policy().Poll; got > most {
		t.Errorf("one holds a set of %s ago, %s more than a poll and the max-age", got, got-most)
	}
	control := behind(t, func(signing.KeySet) time.Duration { return policy().MaxAge })
	if control <= policy().MaxAge+policy().Poll {
		t.Errorf("with a max-age that stays, %s: this proves nothing", control)
	}
	testkit.Figure(t, "cut off for %s: the oldest set held is %s old, a poll and the max-age (control: %s)",
		2*policy().MaxAge, got, control)
}
