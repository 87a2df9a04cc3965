package authn_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
)

// serviceIssuer gives tokens of five minutes, unless it is away.
type serviceIssuer struct {
	mu    sync.Mutex
	calls int
	away  error
	takes time.Duration
}

func (i *serviceIssuer) issue(context.Context) (string, time.Time, error) {
	i.mu.Lock()
	i.calls++
	n, away, takes := i.calls, i.away, i.takes
	i.mu.Unlock()
	<-time.After(takes)
	return fmt.Sprint("token ", n), time.Now().Add(5 * time.Minute), away
}

func (i *serviceIssuer) set(away error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.away = away
}

func wantToken(t *testing.T, s *authn.ServiceTokens, want string) {
	t.Helper()
	if got, err := s.Token(t.Context()); err != nil || got != want {
		t.Fatalf("got %q, %v; want %q", got, err, want)
	}
}

func TestAServiceTokenIsFetchedInNobodysName(t *testing.T) {
	s := authn.NewServiceTokens(func(ctx context.Context) (string, time.Time, error) {
		if c := authn.CallerFrom(ctx); c.Token != "" {
			t.Errorf("the issuer is asked with the token %q", c.Token)
		}
		return "own", time.Now().Add(time.Minute), nil
	}, nil)
	if got, err := s.Token(authn.WithCaller(t.Context(), authn.Caller{Token: "of a user"})); err != nil ||
		got != "own" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestManyWhoAskForAServiceTokenCauseOneCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &serviceIssuer{takes: time.Second}
		s := authn.NewServiceTokens(i.issue, nil)
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() { wantToken(t, s, "token 1") })
		}
		all.Wait()
		if i.calls != 1 {
			t.Errorf("%d calls", i.calls)
		}
	})
}

func TestAServiceTokenIsRenewedAheadAndNobodyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &serviceIssuer{takes: time.Second}
		s := authn.NewServiceTokens(i.issue, nil)
		wantToken(t, s, "token 1")
		pass(200*time.Second - 1) // two thirds
		wantToken(t, s, "token 1")
		synctest.Wait()
		if i.calls != 1 {
			t.Fatal("it was renewed before two thirds of its time")
		}
		pass(41 * time.Second) // past four fifths
		begun := time.Now()
		wantToken(t, s, "token 1")
		if time.Since(begun) > 0 {
			t.Error("who asked had to wait")
		}
		pass(2 * time.Second)
		wantToken(t, s, "token 2")
	})
}

func TestWhileTheIssuerIsAwayTheOldTokenServesUntilItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &serviceIssuer{}
		s := authn.NewServiceTokens(i.issue, nil)
		wantToken(t, s, "token 1")
		i.set(errs.Unavailable("X", "away"))
		pass(4*time.Minute + 30*time.Second)
		wantToken(t, s, "token 1")
		synctest.Wait()
		pass(29 * time.Second)
		wantToken(t, s, "token 1")
		pass(61 * time.Second)
		_, err := s.Token(t.Context())
		e := errs.As(err)
		if e == nil || e.Kind != errs.KindUnavailable || e.Reason != "AUTH_UNAVAILABLE" ||
			!strings.Contains(e.Message, "unavailable for 1m30s") || e.RetryAfter <= 0 {
			t.Fatalf("answered %v", err)
		}
		calls := i.calls
		for range 50 { // the issuer is left alone for a second
			if _, err := s.Token(t.Context()); err == nil {
				t.Fatal("a token from nowhere")
			}
		}
		if i.calls != calls {
			t.Errorf("%d calls within a second", i.calls-calls)
		}
		i.set(nil)
		pass(time.Second)
		wantToken(t, s, fmt.Sprint("token ", calls+1))
	})
}

func TestARefusedSecretIsReportedAndAnInvalidTokenIsNotUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &serviceIssuer{away: errs.Unauthenticated("SERVICE_SECRET_INVALID", "no")}
		_, err := authn.NewServiceTokens(i.issue, nil).Token(t.Context())
		if e := errs.As(err); e == nil || e.Reason != "AUTH_UNAVAILABLE" ||
			!strings.Contains(e.Message, "refuses the secret") {
			t.Errorf("answered %v", err)
		}
		for name, expires := range map[string]time.Time{"expired": time.Now(), "of no time": {}} {
			s := authn.NewServiceTokens(func(context.Context) (string, time.Time, error) { return "x", expires, nil },
				nil)
			if token, err := s.Token(t.Context()); !errs.Is(err, errs.KindUnavailable) {
				t.Errorf("a token %s: %q, %v", name, token, err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		i = &serviceIssuer{takes: time.Second}
		s := authn.NewServiceTokens(i.issue, nil)
		if _, err := s.Token(ctx); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		wantToken(t, s, "token 1") // one who leaves doesn't stop it for the others
	})
}

func TestATokenThatIsRefusedIsForgottenOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &serviceIssuer{}
		s := authn.NewServiceTokens(i.issue, nil)
		wantToken(t, s, "token 1")
		for range 100 { // a service that refuses whatever it is shown
			s.Forget("token 1")
			wantToken(t, s, "token 1")
		}
		pass(10 * time.Second)
		s.Forget("another")
		wantToken(t, s, "token 1")
		s.Forget("token 1")
		wantToken(t, s, "token 2")
		s.Forget("token 1") // whose answer comes late
		s.Forget("token 2")
		wantToken(t, s, "token 2")
		if i.calls != 2 {
			t.Errorf("%d calls", i.calls)
		}
	})
}
