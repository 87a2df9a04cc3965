package authn_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/testkit"
)

func newRevocations() *authn.Revocations {
	return authn.NewRevocations(nil, slog.New(slog.DiscardHandler))
}

func news(one authn.Revoked) authn.RevocationUpdate {
	return authn.RevocationUpdate{Epoch: 1, CaughtUp: true, Revoked: []authn.Revoked{one}}
}

func TestARevokedTokenIsRefusedAlsoWhenItIsCached(t *testing.T) {
	signers, ring := newSigners(t)
	now := time.Now()
	token := func(change map[string]any) string {
		return sign(t, jwt.SigningMethodEdDSA, signers["ed"].private, "ed", claims(now, change), nil)
	}
	later := now.Add(16 * time.Minute)
	for _, tc := range []struct {
		name    string
		revoked authn.Revoked
		token   string
		refused bool
	}{
		{"its session", authn.Revoked{Kind: "SESSION", Subject: session.String(), Until: later}, token(nil), true},
		{"its key", authn.Revoked{Kind: "KEY", Subject: "ed", Until: later}, token(nil), true},
		{"its user", authn.Revoked{Kind: "USER", Subject: user.String(), IssuedUntil: now, Until: later}, token(nil),
			true},
		{"its user, of whom it doesn't say when it was issued",
			authn.Revoked{Kind: "USER", Subject: user.String(), IssuedUntil: now, Until: later},
			token(map[string]any{"iat": nil}), true},
		{"its user, before they were let in again",
			authn.Revoked{Kind: "USER", Subject: user.String(), IssuedUntil: now.Add(-2 * time.Second), Until: later},
			token(nil), false},
		{"another session", authn.Revoked{Kind: "SESSION", Subject: uuid.NewString(), Until: later}, token(nil),
			false},
		{"another user", authn.Revoked{Kind: "USER", Subject: uuid.NewString(), IssuedUntil: later, Until: later},
			token(nil), false},
		{"another key", authn.Revoked{Kind: "KEY", Subject: "ec", Until: later}, token(nil), false},
		{"a user with the id of its session",
			authn.Revoked{Kind: "USER", Subject: session.String(), IssuedUntil: later, Until: later}, token(nil),
			false},
		{"something of a later issuer", authn.Revoked{Kind: "DEVICE", Subject: session.String(), Until: later},
			token(nil), false},
		{"its session, long ago", authn.Revoked{Kind: "SESSION", Subject: session.String(),
			Until: now.Add(-time.Second)}, token(nil), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			revoked := newRevocations()
			v := authn.NewVerifier(ring, authn.Options{Issuer: issuer, Revoked: revoked.Revoked})
			if _, err := v.Verify(t.Context(), tc.token); err != nil {
				t.Fatal("before: ", err)
			}
			if err := revoked.Apply(news(tc.revoked)); err != nil {
				t.Fatal(err)
			}
			fresh := authn.NewVerifier(ring, authn.Options{Issuer: issuer, Revoked: revoked.Revoked})
			for what, v := range map[string]*authn.Verifier{"remembered": v, "seen for the first time": fresh} {
				c, err := v.Verify(t.Context(), tc.token)
				if want := map[bool]string{true: "TOKEN_REVOKED"}[tc.refused]; reasonOf(err) != want ||
					tc.refused != c.Anonymous() {
					t.Errorf("%s: %v, %v; want %q", what, c.UserID, err, want)
				}
			}
		})
	}
	t.Run("its key, which has left the set", func(t *testing.T) {
		revoked := newRevocations()
		v := authn.NewVerifier(keyring{}, authn.Options{Issuer: issuer, Revoked: revoked.Revoked})
		fail(t, revoked.Apply(news(authn.Revoked{Kind: "KEY", Subject: "ed", Until: later})))
		if _, err := v.Verify(t.Context(), token(nil)); reasonOf(err) != "TOKEN_REVOKED" {
			t.Error(err)
		}
	})
}

func TestARevocationIsForgottenWhenItsTokensHaveExpiredAndNotBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		revoked := newRevocations()
		until := time.Now().Add(16 * time.Minute)
		fail(t, revoked.Apply(news(authn.Revoked{Kind: "SESSION", Subject: session.String(), Until: until})))
		fail(t, revoked.Apply(news(authn.Revoked{Kind: "SESSION", Subject: session.String(),
			Until: time.Now().Add(time.Minute)})))
		for range 15 {
			pass(time.Minute)
			fail(t, revoked.Apply(authn.RevocationUpdate{Epoch: 1, CaughtUp: true}))
			if !revoked.Revoked("", authn.Caller{SessionID: session}) {
				t.Fatal("forgotten too early")
			}
		}
		pass(time.Minute)
		fail(t, revoked.Apply(authn.RevocationUpdate{Epoch: 1, CaughtUp: true}))
		if n := revoked.Count(); n != 0 {
			t.Errorf("%d are remembered", n)
		}
	})
}

func TestAnIssuerThatLiesFillsNoMemoryAndTakesNothingBack(t *testing.T) {
	most := testkit.Size(20_000, 1_000_000)
	revoked := newRevocations()
	if limit := revoked.SetLimit(most); limit != 1_000_000 {
		t.Fatalf("%d are remembered at most", limit)
	}
	fail(t, revoked.Apply(news(authn.Revoked{Kind: "SESSION", Subject: session.String(),
		Until: time.Now().Add(time.Hour)})))
	var full error
	never := time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
	id := uuid.New()
	for n := 0; full == nil && n < 2*most; n += 10_000 {
		flood := authn.RevocationUpdate{Epoch: int64(n), CaughtUp: true}
		for i := range 10_000 {
			id[0], id[1], id[2] = byte((n+i)>>16), byte((n+i)>>8), byte(n+i)
			flood.Revoked = append(flood.Revoked, authn.Revoked{Kind: "SESSION", Subject: id.String(), Until: never})
		}
		full = revoked.Apply(flood)
	}
	if full == nil || revoked.Count() != most {
		t.Fatalf("%d are remembered, %v", revoked.Count(), full)
	}
	for _, lie := range []authn.Revoked{
		{Kind: "KEY", Subject: "", Until: never}, {Kind: "KEY", Subject: strings.Repeat("k", 129), Until: never},
		{Kind: "SESSION", Subject: "1", Until: never}, {Kind: "USER", Subject: uuid.Nil.String(), Until: never},
	} {
		if err := revoked.Apply(news(lie)); err == nil {
			t.Errorf("%+v was taken", lie)
		}
	}
	if !revoked.Revoked("", authn.Caller{SessionID: session}) {
		t.Error("what was heard was taken back")
	}
	if revoked.Revoked("", authn.Caller{SessionID: uuid.New(), UserID: user}) {
		t.Error("what was not revoked is refused")
	}
	// known before
	fail(t, revoked.Apply(news(authn.Revoked{Kind: "SESSION", Subject: session.String(), Until: never})))
	testkit.Figure(t, "a stream that revokes without end: %d remembered, then it is given up", revoked.Count())
}

// streams is an issuer whose streams a test writes, one after the other.
type streams struct {
	opened int
	run    func(n int, ctx context.Context, take func(authn.RevocationUpdate) error) error
}

func (s *streams) watch(ctx context.Context, take func(authn.RevocationUpdate) error) error {
	s.opened++
	return s.run(s.opened, ctx, take)
}

func TestAStreamThatIsCutSilentOrInvalidIsReplaced(t *testing.T) {
	heartbeat := authn.RevocationUpdate{Epoch: 1, CaughtUp: true}
	for name, first := range map[string]func(context.Context, func(authn.RevocationUpdate) error) error{
		"cut": func(context.Context, func(authn.RevocationUpdate) error) error {
			return errors.New(
				"connection reset")
		},
		"silent": func(ctx context.Context, _ func(
			authn.RevocationUpdate) error) error {
			<-ctx.Done()
			return ctx.Err()
		},
		"wrong": func(_ context.Context, take func(authn.RevocationUpdate) error) error {
			return take(news(authn.Revoked{Kind: "SESSION", Subject: "x", Until: time.Now().Add(time.Hour)}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				revoked := newRevocations()
				s := &streams{run: func(n int, ctx context.Context, take func(authn.RevocationUpdate) error) error {
					if n == 1 {
						return first(ctx, take)
					}
					fail(t, take(news(authn.Revoked{Kind: "SESSION", Subject: session.String(),
						Until: time.Now().Add(time.Hour)})))
					for {
						select {
						case <-ctx.Done():
							return ctx.Err()
						case <-time.After(authn.RevocationHeartbeat):
							fail(t, take(heartbeat))
						}
					}
				}}
				ctx, stop := context.WithCancel(t.Context())
				ended := make(chan error)
				go func() { ended <- revoked.Follow(ctx, s.watch) }()
				pass(20 * time.Second)
				if s.opened != 2 || !revoked.Revoked("", authn.Caller{SessionID: session}) ||
					revoked.Age() > authn.RevocationHeartbeat {
					t.Errorf("%d streams, away %s", s.opened, revoked.Age())
				}
				stop()
				fail(t, <-ended)
			})
		})
	}
}

func TestWithoutAStreamTheNextOneIsOpenedAfterAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		revoked := newRevocations()
		s := &streams{run: func(_ int, _ context.Context, take func(authn.RevocationUpdate) error) error {
			fail(t, take(authn.RevocationUpdate{Epoch: 1})) // not all that counts
			return errors.New("cut")
		}}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- revoked.Follow(ctx, s.watch) }()
		pass(10 * time.Minute)
		if revoked.Age() != 10*time.Minute || s.opened < 100 || s.opened > 300 {
			t.Errorf("away %s after %d streams", revoked.Age(), s.opened)
		}
		stop()
		fail(t, <-ended)
	})
}

func TestAChangedKeySetIsFetchedAtOnceAndNotTooOften(t *testing.T) {
	follow(t, func(t *testing.T, d *document, r *authn.RemoteKeys) {
		d.set(func(d *document) { d.maxAge = "86400" })
		serves(t, r, "a")
		revoked := authn.NewRevocations(r.Refetch, slog.New(slog.DiscardHandler))
		fail(t, revoked.Apply(authn.RevocationUpdate{Epoch: 1, CaughtUp: true}))
		pass(time.Minute)
		if n := d.fetches.Load(); n != 1 {
			t.Fatalf("%d fetches for the epoch that was known", n)
		}
		fail(t, revoked.Apply(authn.RevocationUpdate{Epoch: 2, CaughtUp: true}))
		pass(time.Second)
		if n := d.fetches.Load(); n != 2 {
			t.Errorf("%d fetches a second after a new epoch", n)
		}
		pass(time.Minute)
		fail(t, revoked.Apply(news(authn.Revoked{Kind: "KEY", Subject: "a", Until: time.Now().Add(time.Hour)})))
		pass(time.Second)
		if n := d.fetches.Load(); n != 3 {
			t.Errorf("%d fetches a second after a key was revoked", n)
		}
		for i := range 6000 { // an issuer that lies
			fail(t, revoked.Apply(authn.RevocationUpdate{Epoch: int64(3 + i), CaughtUp: true}))
			pass(10 * time.Millisecond)
		}
		if n := d.fetches.Load(); n < 3+5 || n > 3+7 {
			t.Errorf("%d fetches in a minute of new epochs", n-3)
		}
	})
}

// Two rotations within ten seconds are two pieces of news, the second of which
// has to wait: the refreshes that are due meanwhile don't.
func TestARefetchThatHasToWaitDelaysNoRefresh(t *testing.T) {
	follow(t, func(t *testing.T, d *document, r *authn.RemoteKeys) {
		d.set(func(d *document) { d.maxAge = "2" })
		serves(t, r, "a")
		pass(time.Minute)
		r.Refetch()
		pass(3 * time.Second)
		before := d.fetches.Load()
		r.Refetch()
		pass(6 * time.Second)
		if n := d.fetches.Load() - before; n < 5 || n > 8 {
			t.Errorf("%d fetches in six seconds of a set that is good for two", n)
		}
	})
}
