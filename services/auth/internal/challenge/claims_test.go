package challenge_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/challenge"
)

// claims are claims in memory.
type claims struct {
	mu          sync.Mutex
	claimed     map[string]bool
	unavailable bool
}

func (c *claims) Claim(_ context.Context, key string, use int, _ time.Time) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unavailable {
		return false, errors.New("away")
	}
	name := fmt.Sprint(key, use)
	before := c.claimed[name]
	c.claimed[name] = true
	return !before, nil
}

func newClaimedBox(ttl time.Duration) (*challenge.Registry[string], *memory, *claims) {
	m, c := &memory{kept: map[string]challenge.Stored[string]{}}, &claims{claimed: map[string]bool{}}
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	now := func() time.Time { return at }
	return challenge.NewRegistry[string](challenge.Claimed[string](m, c, now), ttl, now), m, c
}

func TestAChallengeThatComesBackAfterItsUseIsNotUsedAgain(t *testing.T) {
	wrong := errs.Unauthenticated("TOTP_INVALID", "wrong") // after which it may be used again
	uses := func(b *challenge.Registry[string], m *memory) []error {
		put(t, b)
		before := maps.Clone(m.kept)
		first := use(t, b, wrong)
		between := maps.Clone(m.kept)
		m.kept = before // a failover that lost the first use
		again := use(t, b, nil)
		m.kept = maps.Clone(between)
		second := use(t, b, nil)
		m.kept = between
		return []error{first, again, second, use(t, b, nil)}
	}
	b, m, _ := newClaimedBox(time.Minute)
	if got := uses(b, m); !errors.Is(got[0], wrong) || !errors.Is(got[1], errNone) || got[2] != nil ||
		!errors.Is(got[3], errNone) {
		t.Errorf("%v", got)
	}
	unclaimed, m, _ := newBox(time.Minute)
	if got := uses(unclaimed, m); got[1] != nil || got[3] != nil {
		t.Errorf("the control, a store alone: %v", got)
	}
}

func TestWithoutTheClaimsAChallengeIsKeptForLater(t *testing.T) {
	b, _, c := newClaimedBox(time.Minute)
	put(t, b)
	c.unavailable = true
	if err := use(t, b, nil); err == nil || errs.As(err) != nil {
		t.Errorf("the error of the claims is not passed on: %v", err)
	}
	c.unavailable = false
	if err := use(t, b, nil); err != nil {
		t.Error(err)
	}
}
