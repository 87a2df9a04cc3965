package signing_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/purserhq/purser/services/auth/internal/signing"
)

func anyPolicy(t *rapid.T) signing.Policy {
	seconds := func(name string, low, high int) time.Duration {
		return time.Duration(rapid.IntRange(low, high).Draw(t, name)) * time.Second
	}
	p := signing.Policy{Poll: seconds("poll", 1, 30), Skew: seconds("skew", 0, 30), TokenTTL: seconds("ttl", 1, 3600)}
	p.MaxAge = 2*p.Poll + seconds("max age", 1, 600)
	p.Lease = 2*p.Poll + seconds("lease", 0, 120)
	p.Period = p.PropagationTime() + seconds("period", 0, 86400)
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	return p
}

// history is a ring under Plan's steps, with what has to hold of it.
type history struct {
	t      *rapid.T
	policy signing.Policy
	now    time.Time
	keys   []signing.Key
	made   int
}

func (h *history) key(kid string) *signing.Key {
	i := slices.IndexFunc(h.keys, func(k signing.Key) bool { return k.KID == kid })
	if i < 0 {
		h.t.Fatalf("the plan names %q, which is not in the ring", kid)
	}
	return &h.keys[i]
}

func (h *history) create(state signing.State) {
	h.made++
	k := signing.Key{KID: fmt.Sprint("key ", h.made), State: state, PublishedAt: h.now, Sealed: []byte("x")}
	if state == signing.Active {
		k.ActivatedAt = h.now
	}
	h.keys = append(h.keys, k)
}

// take applies a step as the store does, and checks what it must not do.
func (h *history) take(s signing.Step) {
	if s.Demote != "" {
		k := h.key(s.Demote)
		if k.State != signing.Active || s.Promote == "" {
			h.t.Fatalf("%s is demoted from %s for %q", k.KID, k.State, s.Promote)
		}
		k.State, k.RetiringAt = signing.Retiring, h.now
	}
	if s.Promote != "" {
		k := h.key(s.Promote)
		young := h.now.Before(k.PublishedAt.Add(h.policy.PropagationTime()))
		if k.State != signing.Standby || young != s.PromotedEarly || young && s.Demote != "" {
			h.t.Fatalf("%s is promoted from %s, young %v, promoted early %v, for %q", k.KID, k.State, young,
				s.PromotedEarly, s.Demote)
		}
		k.State, k.ActivatedAt = signing.Active, h.now
	}
	for _, kid := range s.Erase {
		k := h.key(kid)
		if k.State != signing.Retiring || h.now.Sub(k.RetiringAt) < h.policy.Lease+h.policy.Skew {
			h.t.Fatalf("%s is erased %s after it began to retire", kid, h.now.Sub(k.RetiringAt))
		}
		k.Sealed = nil
	}
	for _, kid := range s.Retire {
		k := h.key(kid)
		if minimum := h.policy.Lease + h.policy.TokenTTL + 2*h.policy.Skew; k.State != signing.Retiring ||
			h.now.Sub(k.RetiringAt) < minimum {
			h.t.Fatalf("%s leaves the set %s after it began to retire", kid, h.now.Sub(k.RetiringAt))
		}
		k.State = signing.Retired
	}
	if s.CreateStandby {
		h.create(signing.Standby)
	}
}

func (h *history) count(state signing.State) (n int) {
	for _, k := range h.keys {
		if k.State == state {
			n++
		}
	}
	return n
}

func TestNoHistoryOfARingBreaksItsInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := &history{t: t, policy: anyPolicy(t), now: time.Unix(1_800_000_000, 0)}
		h.create(signing.Active)
		h.create(signing.Standby)
		for range rapid.IntRange(1, 60).Draw(t, "events") {
			h.now = h.now.Add(time.Duration(rapid.Int64Range(0, int64(h.policy.Period)).Draw(t, "later")))
			if revoked := rapid.SampledFrom(append([]signing.Key{{}, {}, {}, {}, {}}, h.keys...)).Draw(t,
				"revoked"); revoked.KID != "" {
				k := h.key(revoked.KID)
				k.State, k.Sealed = signing.Revoked, nil
			}
			forced := rapid.Bool().Draw(t, "forced")
			steps := 0
			next := func(forced bool) signing.Step { return signing.NextStep(h.keys, h.now, h.policy, forced) }
			for s := next(forced); s.Due(); s = next(false) {
				h.take(s)
				if steps++; steps > 4 {
					t.Fatalf("the plan has no end: %+v", s)
				}
			}
			if h.count(signing.Active) != 1 || h.count(signing.Standby) != 1 {
				t.Fatalf("%d active and %d standing by", h.count(signing.Active), h.count(signing.Standby))
			}
			s := signing.NextStep(h.keys, h.now, h.policy, false)
			if s.NextDueAt.IsZero() || !s.NextDueAt.After(h.now) {
				t.Fatalf("nothing is due, and next is %s", s.NextDueAt)
			}
			if early := signing.NextStep(h.keys, s.NextDueAt.Add(-time.Nanosecond), h.policy, false); early.Due() {
				t.Fatalf("something is due before %s", s.NextDueAt)
			}
			if due := signing.NextStep(h.keys, s.NextDueAt, h.policy, false); !due.Due() {
				t.Fatalf("nothing is due at %s", s.NextDueAt)
			}
		}
	})
}
