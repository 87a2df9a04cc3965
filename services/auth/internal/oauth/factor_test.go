package oauth_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/challenge"
	"github.com/purserhq/purser/services/auth/internal/identity"
	"github.com/purserhq/purser/services/auth/internal/oauth"
	"github.com/purserhq/purser/services/auth/internal/session"
)

// once is a store in memory.
type once[V any] struct {
	mu   sync.Mutex
	kept map[string]V
}

func (o *once[V]) Put(_ context.Context, key string, v V, _ time.Duration) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.kept == nil {
		o.kept = map[string]V{}
	}
	o.kept[key] = v
	return nil
}

func (o *once[V]) Take(_ context.Context, key string) (V, bool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	v, ok := o.kept[key]
	delete(o.kept, key)
	return v, ok, nil
}

// world is everything that the rules stand on: a provider that knows Ada, her
// account, and a second factor whose code is 123456.
type world struct {
	*oauth.Service
	user   uuid.UUID
	at     time.Time
	began  []session.SignIn
	events []audit.Event
}

func (w *world) AuthURL(context.Context, oauth.Request) (string, error) {
	return "https://p.example", nil
}

func (w *world) Identify(context.Context, oauth.Answer) (identity.Claim, error) {
	return identity.Claim{Subject: "ada", Email: "ada@example.com", Verified: true}, nil
}

func (w *world) Resolve(context.Context, identity.Claim, account.User,
	func(identity.Found) (identity.Decision, error)) (identity.SignedIn, error) {
	return identity.SignedIn{User: w.user, Identity: w.user}, nil
}

func (w *world) Add(context.Context, uuid.UUID, identity.Claim, time.Time,
	func(int) error) (identity.Identity, error) {
	return identity.Identity{}, nil
}

func (w *world) List(context.Context, uuid.UUID) ([]identity.Identity, error) { return nil, nil }

func (w *world) EndEverything(context.Context, uuid.UUID, audit.Event) (identity.Ended, error) {
	return identity.Ended{}, nil
}

func (w *world) Change(context.Context, uuid.UUID, account.Decide) error { return nil }

func (w *world) Record(_ context.Context, e audit.Event) error {
	w.events = append(w.events, e)
	return nil
}

func (w *world) Begin(_ context.Context, in session.SignIn) (session.Tokens, error) {
	switch in.Code {
	case "":
		return session.Tokens{}, errs.Unauthenticated("TOTP_REQUIRED", "")
	case "123456":
		w.began = append(w.began, in)
		return session.Tokens{Access: "token"}, nil
	}
	return session.Tokens{}, errs.Unauthenticated("TOTP_INVALID", "")
}

func newWorld() *world {
	w := &world{user: uuid.New(), at: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	now := func() time.Time { return w.at }
	w.Service = oauth.NewService(oauth.Deps{
		Providers: map[string]oauth.Provider{"p": w},
		States:    &once[challenge.Stored[oauth.State]]{}, Codes: &once[challenge.Stored[oauth.LoginCode]]{},
		Identities: identity.NewService(w, now), Sessions: w, Audit: w, Now: now,
	}, oauth.Addresses{
		AppRedirectURIs: []string{"https://app.example"}, ReturnURLs: []string{"https://app.example/done"},
	})
	return w
}

// code signs in up to where the second factor is asked for.
func (w *world) code(t *testing.T) string {
	t.Helper()
	started, err := w.Start(t.Context(), "p", "https://app.example")
	if err != nil {
		t.Fatal(err)
	}
	tokens, code, err := w.Finish(t.Context(), oauth.Callback{State: started.State, Code: "x", Secret: started.Secret})
	if err != nil || tokens.Access != "" || code == "" {
		t.Fatal(tokens, code, err)
	}
	return code
}

func (w *world) exchange(t *testing.T, code, otp string) string {
	t.Helper()
	_, err := w.Exchange(t.Context(), code, "", otp)
	if e := errs.As(err); e != nil {
		return e.Reason
	}
	if err != nil {
		t.Fatal(err)
	}
	return ""
}

func TestAnAccountWithASecondFactorGetsACodeInPlaceOfTokens(t *testing.T) {
	w := newWorld()
	code := w.code(t)
	for _, step := range []struct{ otp, want string }{{"", "TOTP_REQUIRED"}, {"000000", "TOTP_INVALID"},
		{"123456", ""}, {"123456", "LOGIN_CODE_INVALID"}} {
		if got := w.exchange(t, code, step.otp); got != step.want {
			t.Errorf("%q answered %q, want %q", step.otp, got, step.want)
		}
	}
	if len(w.began) != 1 || w.began[0].User != w.user || !slices.Equal(w.began[0].Methods, []string{"oauth"}) {
		t.Error(w.began)
	}
	if len(w.events) != 1 || w.events[0].Reason != "LOGIN_CODE_INVALID" { // the rest is the sessions' to record
		t.Error(w.events)
	}
}

func TestFiveWrongSecondFactorsUseACodeUp(t *testing.T) {
	w := newWorld()
	code := w.code(t)
	for range 5 {
		if got := w.exchange(t, code, "000000"); got != "TOTP_INVALID" {
			t.Fatal(got)
		}
	}
	if got := w.exchange(t, code, "123456"); got != "LOGIN_CODE_INVALID" {
		t.Error("a sixth try:", got)
	}
}

func TestCodesAndStatesEndInTime(t *testing.T) {
	w := newWorld()
	code := w.code(t)
	w.at = w.at.Add(5 * time.Minute)
	if got := w.exchange(t, code, "123456"); got != "LOGIN_CODE_INVALID" {
		t.Error(got)
	}
	started, err := w.Start(t.Context(), "p", "https://app.example")
	if err != nil {
		t.Fatal(err)
	}
	w.at = w.at.Add(5 * time.Minute)
	_, _, err = w.Finish(t.Context(), oauth.Callback{State: started.State, Code: "x", Secret: started.Secret})
	if e := errs.As(err); e == nil || e.Reason != "OAUTH_STATE_INVALID" {
		t.Error(err)
	}

	started, err = w.StartHosted(t.Context(), "p", oauth.Return{To: "https://app.example/done"})
	if err != nil {
		t.Fatal(err)
	}
	back, err := w.FinishHosted(t.Context(), oauth.Callback{State: started.State, Code: "x", Secret: started.Secret})
	if err != nil {
		t.Fatal(err)
	}
	code = strings.TrimPrefix(back, "https://app.example/done?code=")
	w.at = w.at.Add(time.Minute)
	if got := w.exchange(t, code, "123456"); got != "LOGIN_CODE_INVALID" {
		t.Error("a hosted code lives longer than a minute:", got)
	}
}
