package app_test

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"testing"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

// beginLink starts a link, approved at the provider already.
func (s service) beginLink(t *testing.T, as context.Context, p *provider) *authv1.LinkProviderRequest {
	t.Helper()
	started, err := s.identities.StartProviderLink(as,
		&authv1.StartProviderLinkRequest{Provider: "corp", RedirectUri: redirectURI})
	if err != nil {
		t.Fatal(err)
	}
	state, code := p.approve(t, started.GetAuthorizationUrl())
	if state != started.GetState() {
		t.Fatal("the state is another")
	}
	return &authv1.LinkProviderRequest{State: state, Code: code, Secret: started.GetSecret()}
}

func TestAProviderIsLinkedAndSignsIn(t *testing.T) {
	s, p := withProvider(t)
	s.register(t, "ada@example.com")
	tokens := s.login(t, "ada@example.com")
	ada := grpcclient.WithToken(t.Context(), tokens.GetAccessToken())
	p.signedIn("ada-at-work", "someone.else@corp.example", false) // the address does not matter
	link := s.beginLink(t, ada, p)
	p.set("/token", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	_, err := s.identities.LinkProvider(ada, link)
	want(t, err, errs.KindUnavailable, "PROVIDER_UNAVAILABLE")
	p.set("/token", nil)
	linked, err := s.identities.LinkProvider(ada, link) // the failure did not use it up
	if err != nil || linked.GetIdentity().GetProvider() != "corp" ||
		linked.GetIdentity().GetSubject() != "ada-at-work" {
		t.Fatal(linked, err)
	}
	_, err = s.identities.LinkProvider(ada, link)
	want(t, err, errs.KindUnauthenticated, "OAUTH_STATE_INVALID")
	if got := s.me(t, s.signIn(t, p).GetAccessToken()); got.GetEmail() != "ada@example.com" {
		t.Error(got)
	}
	_, err = s.identities.LinkProvider(ada, s.beginLink(t, ada, p))
	want(t, err, errs.KindAlreadyExists, "IDENTITY_LINKED")
	s.register(t, "eve@example.com")
	eve := grpcclient.WithToken(t.Context(), s.login(t, "eve@example.com").GetAccessToken())
	_, err = s.identities.LinkProvider(eve, s.beginLink(t, eve, p))
	want(t, err, errs.KindAlreadyExists, "IDENTITY_LINKED")
	if _, err := s.identities.UnlinkIdentity(ada,
		&authv1.UnlinkIdentityRequest{IdentityId: linked.GetIdentity().GetIdentityId()}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.identities.LinkProvider(eve, s.beginLink(t, eve, p)); err != nil { // nobody's now
		t.Error(err)
	}
	if e := s.events(t); !slices.Contains(e, "identity.linked OK LINKED") ||
		!slices.Contains(e, "identity.linked REFUSED IDENTITY_LINKED") ||
		!slices.Contains(e, "identity.unlinked OK ") {
		t.Error(e)
	}
}

// What was started for one purpose, account, session or app is finished for no other.
func TestALinkIsFinishedByTheSessionThatStartedItOnly(t *testing.T) {
	s, p := withProvider(t)
	s.register(t, "ada@example.com")
	s.register(t, "mallory@example.com")
	as := func(email string) context.Context {
		return grpcclient.WithToken(t.Context(), s.login(t, email).GetAccessToken())
	}
	ada, mallory := as("ada@example.com"), as("mallory@example.com")
	p.signedIn("somebody", "somebody@corp.example", true)
	for name, use := range map[string]func() error{
		"a sign-in links": func() error {
			r := s.begin(t, p)
			_, err := s.identities.LinkProvider(ada, &authv1.LinkProviderRequest{State: r.GetState(),
				Code: r.GetCode(), Secret: r.GetSecret()})
			return err
		},
		"a link signs in": func() error {
			r := s.beginLink(t, ada, p)
			_, err := s.sessions.FinishOAuth(t.Context(), &authv1.FinishOAuthRequest{State: r.GetState(),
				Code: r.GetCode(), Secret: r.GetSecret()})
			return err
		},
		"the link of mallory links to ada": func() error {
			_, err := s.identities.LinkProvider(ada, s.beginLink(t, mallory, p))
			return err
		},
		"another session of ada": func() error {
			_, err := s.identities.LinkProvider(as("ada@example.com"), s.beginLink(t, ada, p))
			return err
		},
		"another app": func() error {
			r := s.beginLink(t, ada, p)
			r.Secret = s.beginLink(t, ada, p).GetSecret()
			_, err := s.identities.LinkProvider(ada, r)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			want(t, use(), errs.KindUnauthenticated, "OAUTH_STATE_INVALID")
		})
	}
	t.Run("a link on the hosted page", func(t *testing.T) {
		r := s.beginLink(t, ada, p)
		status, _ := open(t, browser(t), s.http+"/oauth/callback?state="+r.GetState()+"&code="+r.GetCode())
		if status != http.StatusBadRequest {
			t.Error(status)
		}
	})
	if n := s.count(t, "identities"); n != 0 {
		t.Errorf("%d were linked", n)
	}
}

func TestLinkingNeedsAPersonWhoSignedInRecentlyAndKnownInput(t *testing.T) {
	s, p := withProvider(t)
	s.register(t, "ada@example.com")
	token := s.login(t, "ada@example.com").GetAccessToken()
	ada := grpcclient.WithToken(t.Context(), token)
	exchanged, err := s.keys.ExchangeApiKey(t.Context(), &authv1.ExchangeApiKeyRequest{Key: s.apiKey(t, token)})
	if err != nil {
		t.Fatal(err)
	}
	old := s.login(t, "ada@example.com")
	s.exec(t, "UPDATE sessions SET auth_time = now() - interval '1 hour' WHERE id = $1",
		claims(t, old.GetAccessToken()).SessionID)
	stale, err := s.sessions.Refresh(t.Context(), &authv1.RefreshRequest{RefreshToken: old.GetRefreshToken()})
	if err != nil {
		t.Fatal(err)
	}
	link := s.beginLink(t, ada, p)
	for reason, token := range map[string]string{"API_KEY_CALLER": exchanged.GetAccessToken(),
		"REAUTHENTICATION_REQUIRED": stale.GetTokens().GetAccessToken()} {
		as := grpcclient.WithToken(t.Context(), token)
		_, err := s.identities.StartProviderLink(as,
			&authv1.StartProviderLinkRequest{Provider: "corp", RedirectUri: redirectURI})
		want(t, err, errs.KindPermissionDenied, reason)
		_, err = s.identities.LinkProvider(as, link)
		want(t, err, errs.KindPermissionDenied, reason)
	}
	_, err = s.identities.StartProviderLink(ada,
		&authv1.StartProviderLinkRequest{Provider: "nobody", RedirectUri: redirectURI})
	want(t, err, errs.KindNotFound, "NOT_FOUND")
	_, err = s.identities.StartProviderLink(ada,
		&authv1.StartProviderLinkRequest{Provider: "corp", RedirectUri: "https://evil.example/callback"})
	if e := want(t, err, errs.KindInvalid, "INVALID_ARGUMENT"); e.Violations[0].Field != "redirect_uri" {
		t.Error(e.Violations)
	}
	s.exec(t, `INSERT INTO identities (id, user_id, provider, subject, label, created_at)
		SELECT gen_random_uuid(), (SELECT id FROM users), 'corp', n::text, '', now() FROM generate_series(1, 20) n`)
	_, err = s.identities.LinkProvider(ada, link)
	want(t, err, errs.KindFailedPrecondition, "TOO_MANY_IDENTITIES")
}

func TestOfTwoAccountsThatLinkOneIdentityOneGetsIt(t *testing.T) {
	s, p := withProvider(t)
	p.signedIn("shared", "shared@corp.example", true)
	var links []func() error
	for _, email := range []string{"ada@example.com", "bob@example.com", "cyd@example.com"} {
		s.register(t, email)
		as := grpcclient.WithToken(context.WithoutCancel(t.Context()), s.login(t, email).GetAccessToken())
		link := s.beginLink(t, as, p)
		links = append(links, func() error { _, err := s.identities.LinkProvider(as, link); return err })
	}
	var mu sync.Mutex
	won := 0
	var all sync.WaitGroup
	for _, link := range links {
		all.Go(func() {
			err := link()
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
			} else if e := errs.As(err); e == nil || e.Reason != "IDENTITY_LINKED" {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := s.count(t, "identities"); won != 1 || n != 1 {
		t.Errorf("%d won, %d identities", won, n)
	}
}
