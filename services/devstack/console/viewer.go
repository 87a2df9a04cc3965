package console

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"time"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

// viewer is an account whose portfolio is shown, with the panels of its data.
type viewer struct {
	id     string // random, and no secret
	email  string
	login  *login
	tokens *authn.ServiceTokens
	// sections by currency and name.
	sections map[string]map[string][]*panel
}

// newViewer makes a viewer of an account, with a password or with the tokens of a session.
func (s *services) newViewer(email, password string, t *authv1.Tokens) *viewer {
	l := &login{sessions: authv1.NewSessionServiceClient(s.auth), email: email, password: password}
	if t != nil {
		l.refreshToken, l.first = t.GetRefreshToken(), t
	}
	v := &viewer{id: rand.Text(), email: email, login: l, tokens: authn.NewServiceTokens(l.token, nil)}
	v.sections = map[string]map[string][]*panel{}
	for _, currency := range currencies() {
		in := func(load func(ctx context.Context, currency string) (any, error)) func(context.Context) (any, error) {
			return func(ctx context.Context) (any, error) { return load(ctx, currency) }
		}
		// What reads months or years of snapshots, which change hourly.
		slow := func(load func(ctx context.Context, currency string) (any, error)) []*panel {
			p := s.panel("portfolio", s.portfolio, v.tokens, in(load))
			p.maxAge *= performanceAge
			return []*panel{p}
		}
		v.sections[currency] = map[string][]*panel{
			"timeline":    {s.panel("portfolio", s.portfolio, v.tokens, in(s.timeline))},
			"holdings":    {s.panel("portfolio", s.portfolio, v.tokens, in(s.holdings))},
			"performance": slow(s.performance), "growth": slow(s.growth), "allocation": slow(s.allocation),
			"loans":   {s.panel("portfolio", s.portfolio, v.tokens, in(s.loans))},
			"alerts":  {s.panel("portfolio", s.portfolio, v.tokens, s.alerts)},
			"wallets": {s.panel("wallet", s.wallet, v.tokens, in(s.wallets))},
		}
	}
	return v
}

// viewerKey tells viewers apart; "none" for nil.
func viewerKey(v *viewer) string {
	switch {
	case v == nil:
		return "none"
	case v.login.ended():
		return v.id + "-ended"
	}
	return v.id
}

// end ends the viewer's session at auth.
func (v *viewer) end(ctx context.Context, s *services) error {
	token, err := v.tokens.Token(ctx)
	if err != nil {
		return err
	}
	_, err = authv1.NewSessionServiceClient(s.auth).Logout(grpcclient.WithToken(ctx, token), &authv1.LogoutRequest{})
	return err
}

// signInRetryAfter is the pause after a refused sign-in: each attempt counts against the account.
const signInRetryAfter = time.Minute

// errSessionEnded is the refusal of a session that has no password to start another with.
var errSessionEnded = errs.Unauthenticated("SESSION_ENDED", "the session has ended: sign in again")

// login holds a session of a user. Unlike client.Password it tries again after a refusal.
type login struct {
	sessions authv1.SessionServiceClient
	email    string
	// password is "" for a session that was started elsewhere, with first as its tokens.
	password string

	mu           sync.Mutex
	first        *authv1.Tokens
	refreshToken string
	device       string // the device token of the last sign-in
	refusal      error
	refusedUntil time.Time
	over         bool
}

// token refreshes the session, or signs in if there is none or it has ended.
func (l *login) token(ctx context.Context) (string, time.Time, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if first := l.first; first != nil {
		l.first = nil
		return l.store(first, nil)
	}
	if l.over {
		return "", time.Time{}, errSessionEnded
	}
	if time.Now().Before(l.refusedUntil) {
		return "", time.Time{}, l.refusal
	}
	if l.refreshToken != "" {
		resp, err := l.sessions.Refresh(ctx, &authv1.RefreshRequest{RefreshToken: l.refreshToken})
		if err == nil || !errs.Is(err, errs.KindUnauthenticated) {
			return l.store(resp.GetTokens(), err)
		}
		if l.password == "" {
			l.over = true
			return "", time.Time{}, errSessionEnded
		}
	}
	resp, err := l.sessions.Login(ctx, &authv1.LoginRequest{Email: l.email, Password: l.password,
		DeviceToken: l.device})
	if err != nil && !errs.Is(err, errs.KindUnavailable) {
		l.refusal, l.refusedUntil = err, time.Now().Add(signInRetryAfter)
	}
	if err == nil {
		l.device = resp.GetDeviceToken()
	}
	return l.store(resp.GetTokens(), err)
}

func (l *login) store(t *authv1.Tokens, err error) (string, time.Time, error) {
	if err != nil {
		return "", time.Time{}, err
	}
	l.refreshToken = t.GetRefreshToken()
	return t.GetAccessToken(), t.GetAccessExpireTime().AsTime(), nil
}

// ended reports whether the session has ended for good.
func (l *login) ended() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.over
}

// tokenError turns the error of a token source into the state of a panel: a refused sign-in, or auth
// being unavailable.
func tokenError(err error, service string) error {
	cause := errors.Unwrap(err)
	switch {
	case errs.Is(cause, errs.KindUnauthenticated):
		return cause
	case service == "auth":
		return err
	}
	return &dependencyError{service: "auth"}
}
