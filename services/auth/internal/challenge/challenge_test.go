package challenge_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/challenge"
)

// memory is a store; careless, it looks before it takes.
type memory struct {
	mu          sync.Mutex
	kept        map[string]challenge.Stored[string]
	careless    func()
	unavailable bool
}

func (m *memory) Put(_ context.Context, key string, v challenge.Stored[string], ttl time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.unavailable || ttl <= 0 {
		return errors.New("away")
	}
	m.kept[key] = v
	return nil
}

func (m *memory) Take(_ context.Context, key string) (challenge.Stored[string], bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.unavailable {
		return challenge.Stored[string]{}, false, errors.New("away")
	}
	v, ok := m.kept[key]
	if m.careless != nil {
		m.mu.Unlock()
		m.careless()
		m.mu.Lock()
	}
	delete(m.kept, key)
	return v, ok, nil
}

type clock struct{ at time.Time }

func newBox(ttl time.Duration) (*challenge.Registry[string], *memory, *clock) {
	m, c := &memory{kept: map[string]challenge.Stored[string]{}}, &clock{time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	return challenge.NewRegistry[string](m, ttl, func() time.Time { return c.at }), m, c
}

var errNone = errs.Unauthenticated("NONE", "there is none") // never changed

// use presents a secret for something that ends with outcome.
func use(t *testing.T, b *challenge.Registry[string], outcome error) error {
	t.Helper()
	return b.Use(t.Context(), "secret", errNone, func(v string) error {
		if v != "value" {
			t.Errorf("got %q", v)
		}
		return outcome
	})
}

func put(t *testing.T, b *challenge.Registry[string]) {
	t.Helper()
	if _, err := b.Put(t.Context(), "secret", "value"); err != nil {
		t.Fatal(err)
	}
}

func TestAChallengeIsUsedOnce(t *testing.T) {
	for name, outcome := range map[string]error{"well": nil, "refused": errs.Unauthenticated("X", ""),
		"failed": errors.New("x"), "denied": errs.FailedPrecondition("X", "")} {
		t.Run(name, func(t *testing.T) {
			b, m, _ := newBox(time.Minute)
			put(t, b)
			for key := range m.kept {
				if key == "secret" {
					t.Error("the secret itself is kept")
				}
			}
			if err := use(t, b, outcome); !errors.Is(err, outcome) {
				t.Fatal(err)
			}
			if err := use(t, b, nil); !errors.Is(err, errNone) {
				t.Fatal(err)
			}
		})
	}
}

func TestOfManyAtOnceOneUsesAChallenge(t *testing.T) {
	const n = 8
	finish := func(careless bool) int64 {
		b, m, _ := newBox(time.Minute)
		if careless {
			var looked sync.WaitGroup
			looked.Add(n)
			m.careless = func() { looked.Done(); looked.Wait() }
		}
		put(t, b)
		var used atomic.Int64
		var all sync.WaitGroup
		for range n {
			all.Go(func() {
				if use(t, b, nil) == nil {
					used.Add(1)
				}
			})
		}
		all.Wait()
		return used.Load()
	}
	if used := finish(false); used != 1 {
		t.Errorf("%d used it", used)
	}
	if used := finish(true); used != n {
		t.Errorf("the control, a store that looks before it takes, let %d use it", used)
	}
}

func TestAChallengeEndsInTime(t *testing.T) {
	b, _, c := newBox(time.Minute)
	put(t, b)
	c.at = c.at.Add(time.Minute)
	if err := use(t, b, nil); !errors.Is(err, errNone) {
		t.Fatal(err)
	}
}

func TestASecondFactorMayBeMissingAndBeWrongFiveTimes(t *testing.T) {
	b, _, c := newBox(time.Minute)
	missing, wrong := errs.Unauthenticated("TOTP_REQUIRED", ""), errs.Unauthenticated("TOTP_INVALID", "")
	put(t, b)
	c.at = c.at.Add(59 * time.Second)
	for range 3 {
		if err := use(t, b, missing); !errors.Is(err, missing) {
			t.Fatal(err)
		}
		c.at = c.at.Add(time.Minute) // it was given five, once
	}
	for range 4 {
		if err := use(t, b, wrong); !errors.Is(err, wrong) {
			t.Fatal(err)
		}
	}
	if err := use(t, b, nil); err != nil {
		t.Fatal("the fifth time it was right:", err)
	}
	put(t, b)
	for range 5 {
		if err := use(t, b, wrong); !errors.Is(err, wrong) {
			t.Fatal(err)
		}
	}
	if err := use(t, b, nil); !errors.Is(err, errNone) {
		t.Fatal("a sixth try:", err)
	}
	put(t, b)
	if err := use(t, b, missing); !errors.Is(err, missing) {
		t.Fatal(err)
	}
	c.at = c.at.Add(4 * time.Minute)
	if err := use(t, b, missing); !errors.Is(err, missing) {
		t.Fatal(err)
	}
	c.at = c.at.Add(time.Minute) // asking again doesn't make it live on
	if err := use(t, b, nil); !errors.Is(err, errNone) {
		t.Fatal(err)
	}
}

// Or one nonce would have nodes that are paid for asked without end.
func TestAChallengeIsPutBackTwentyTimesAtMost(t *testing.T) {
	for _, outcome := range []error{errs.Unavailable("X", ""), errs.Unauthenticated("TOTP_REQUIRED", "")} {
		b, _, _ := newBox(time.Hour)
		put(t, b)
		for range 20 {
			if err := use(t, b, outcome); !errors.Is(err, outcome) {
				t.Fatal(err)
			}
		}
		if err := use(t, b, nil); !errors.Is(err, errNone) {
			t.Error("a use more:", err)
		}
	}
}

func TestWhatCouldNotBeDecidedMayBeTriedAgain(t *testing.T) {
	b, m, _ := newBox(time.Minute)
	put(t, b)
	for _, outcome := range []error{errs.Unavailable("X", ""), context.DeadlineExceeded, context.Canceled,
		errs.Deadline("X", "")} {
		if err := use(t, b, outcome); !errors.Is(err, outcome) {
			t.Fatal(err)
		}
	}
	m.unavailable = true
	if e := errs.As(use(t, b, nil)); e == nil || e.Reason != "SIGN_IN_UNAVAILABLE" {
		t.Fatal(e)
	}
	m.unavailable = false
	if err := use(t, b, nil); err != nil {
		t.Fatal(err)
	}
}
