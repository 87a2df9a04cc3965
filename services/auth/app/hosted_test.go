package app_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

// browser keeps cookies and follows no redirect.
func browser(t *testing.T) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Jar: jar, CheckRedirect: func(*http.Request,
		[]*http.Request) error {
		return http.ErrUseLastResponse
	}}
}

// open gets a page and returns its status and where it leads to, or its text.
func open(t *testing.T, b *http.Client, address string) (int, string) {
	t.Helper()
	resp, err := b.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("Referrer-Policy") != "no-referrer" {
		t.Errorf("headers %v", resp.Header)
	}
	if resp.StatusCode == http.StatusFound {
		return resp.StatusCode, resp.Header.Get("Location")
	}
	return resp.StatusCode, string(body)
}

// startHosted opens the start page and consents at the provider; it returns the
// address that this sends the browser back to.
func (s service) startHosted(t *testing.T, b *http.Client, p *provider, more url.Values) string {
	t.Helper()
	query := url.Values{"return_to": {returnTo}}
	for name, v := range more {
		query[name] = v
	}
	status, to := open(t, b, s.http+"/oauth/corp/start?"+query.Encode())
	if status != http.StatusFound {
		t.Fatal(status, to)
	}
	state, code := p.approve(t, to)
	return s.http + "/oauth/callback?" + url.Values{"state": {state}, "code": {code}}.Encode()
}

func TestABrowserSignsInOnTheHostedPages(t *testing.T) {
	s, p := withProvider(t)
	b := browser(t)
	callback := s.startHosted(t, b, p, url.Values{"state": {"the app's own"}})
	if cookies := b.Jar.Cookies(must(t, s.http)); len(cookies) != 1 {
		t.Fatal(cookies)
	}
	status, to := open(t, b, callback)
	if status != http.StatusFound || !strings.HasPrefix(to, "https://app.example/done?") {
		t.Fatal(status, to)
	}
	back := must(t, to).Query()
	if back.Get("lang") != "en" || back.Get("state") != "the app's own" || back.Get("code") == "" {
		t.Fatal(to)
	}
	if len(b.Jar.Cookies(must(t, s.http))) != 0 {
		t.Error("the cookie stays")
	}
	if status, text := open(t, b, callback); status != http.StatusBadRequest ||
		!strings.Contains(text, "OAUTH_STATE_INVALID") {
		t.Error("the callback works twice", status, text)
	}
	got, err := s.sessions.ExchangeLoginCode(t.Context(), &authv1.ExchangeLoginCodeRequest{Code: back.Get("code")})
	if err != nil {
		t.Fatal(err)
	}
	s.me(t, got.GetTokens().GetAccessToken())
	_, err = s.sessions.ExchangeLoginCode(t.Context(), &authv1.ExchangeLoginCodeRequest{Code: back.Get("code")})
	want(t, err, errs.KindUnauthenticated, "LOGIN_CODE_INVALID")
}

// Whoever ends all sessions ends the sign-ins, too, of which a login code was given out.
func TestALoginCodeEndsWithTheSessions(t *testing.T) {
	s, p := withProvider(t)
	admin := s.asAdmin(t)
	code := func() *authv1.ExchangeLoginCodeRequest {
		b := browser(t)
		_, to := open(t, b, s.startHosted(t, b, p, nil))
		return &authv1.ExchangeLoginCodeRequest{Code: must(t, to).Query().Get("code")}
	}
	for name, end := range map[string]func(ctx context.Context, user string) error{
		"nothing": func(context.Context, string) error { return nil },
		"LogoutAll": func(ctx context.Context, _ string) error {
			_, err := s.sessions.LogoutAll(ctx, &authv1.LogoutAllRequest{})
			return err
		},
		"RevokeUserSessions": func(_ context.Context, user string) error {
			_, err := s.admin.RevokeUserSessions(admin, &authv1.RevokeUserSessionsRequest{UserId: user})
			return err
		},
	} {
		in, err := s.sessions.ExchangeLoginCode(t.Context(), code())
		if err != nil {
			t.Fatal(err)
		}
		token, pending := in.GetTokens().GetAccessToken(), code()
		if err := end(grpcclient.WithToken(t.Context(), token), s.me(t, token).GetId()); err != nil {
			t.Fatal(err)
		}
		_, err = s.sessions.ExchangeLoginCode(t.Context(), pending)
		if name == "nothing" { // the control
			if err != nil {
				t.Fatal(err)
			}
			continue
		}
		want(t, err, errs.KindUnauthenticated, "SESSION_REVOKED")
	}
}

func must(t *testing.T, address string) *url.URL {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestACallbackIsAcceptedFromTheBrowserThatStartedOnly(t *testing.T) {
	s, p := withProvider(t)
	mine, other := browser(t), browser(t)
	for name, b := range map[string]*http.Client{"without a cookie": browser(t),
		"with a cookie of another sign-in": other} {
		t.Run(name, func(t *testing.T) {
			s.startHosted(t, other, p, nil)
			status, text := open(t, b, s.startHosted(t, mine, p, nil))
			if status != http.StatusBadRequest || !strings.Contains(text, "OAUTH_STATE_INVALID") {
				t.Error(status, text)
			}
		})
	}
	first, second := s.startHosted(t, mine, p, nil), s.startHosted(t, mine, p, nil) // two tabs
	for _, callback := range []string{first, second} {
		if status, text := open(t, mine, callback); status != http.StatusFound {
			t.Error(status, text)
		}
	}
	// What an app started is not for the hosted page, nor the other way round.
	asked := s.begin(t, p)
	status, _ := open(t, mine, s.http+"/oauth/callback?"+url.Values{"state": {asked.GetState()},
		"code": {asked.GetCode()}}.Encode())
	hosted := must(t, s.startHosted(t, mine, p, nil)).Query()
	_, err := s.sessions.FinishOAuth(t.Context(),
		&authv1.FinishOAuthRequest{State: hosted.Get("state"), Code: hosted.Get("code"), Secret: "x"})
	want(t, err, errs.KindUnauthenticated, "OAUTH_STATE_INVALID")
	if status != http.StatusBadRequest {
		t.Error(status)
	}
}

func TestTheHostedPagesRedirectToConfiguredAddressesOnly(t *testing.T) {
	s, p := withProvider(t)
	for _, to := range []string{
		"", "https://evil.example", "//evil.example", "https://app.example/done", returnTo + "&x=1",
		"https://app.example/done?lang=en#x",
		"https://app.example@evil.example/done?lang=en", "javascript:alert(1)", returnTo + "\n",
		strings.ToUpper(returnTo), redirectURI,
	} {
		status, text := open(t, browser(t), s.http+"/oauth/corp/start?"+url.Values{"return_to": {to}}.Encode())
		if status != http.StatusBadRequest || strings.Contains(text, "evil") {
			t.Errorf("%q: %d, %s", to, status, text)
		}
	}
	nobody := s.http + "/oauth/nobody/start?" + url.Values{"return_to": {returnTo}}.Encode()
	if status, _ := open(t, browser(t), nobody); status != http.StatusNotFound {
		t.Error(status)
	}
	b := browser(t)
	callback := must(t, s.startHosted(t, b, p, url.Values{"state": {"7"}}))
	q := callback.Query()
	q.Del("code")
	q.Set("error", "<script>access_denied")
	callback.RawQuery = q.Encode()
	status, to := open(t, b, callback.String())
	if back := must(t, to).Query(); status != http.StatusFound || back.Get("error") != "PROVIDER_REFUSED" ||
		back.Get("state") != "7" || strings.Contains(to, "script") {
		t.Error(status, to)
	}
	p.signedIn("ada", "ada@example.com", false)
	status, to = open(t, b, s.startHosted(t, b, p, nil))
	if back := must(t, to).Query(); status != http.StatusFound || back.Get("error") != "PROVIDER_EMAIL_UNVERIFIED" ||
		back.Has("code") {
		t.Error(status, to)
	}
	callback = must(t, s.startHosted(t, b, p, nil))
	p.set("/token", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	if status, text := open(t, b, callback.String()); status != http.StatusServiceUnavailable {
		t.Error(status, text)
	}
}

func TestALoginCodeNeedsItsVerifier(t *testing.T) {
	s, p := withProvider(t)
	verifier := strings.Repeat("v", 43)
	sum := sha256.Sum256([]byte(verifier))
	challenge := base64.RawURLEncoding.EncodeToString(sum[:])
	code := func(more url.Values) string {
		b := browser(t)
		_, to := open(t, b, s.startHosted(t, b, p, more))
		return must(t, to).Query().Get("code")
	}
	for name, r := range map[string]*authv1.ExchangeLoginCodeRequest{
		"no verifier": {Code: code(url.Values{"code_challenge": {challenge}})},
		"another verifier": {Code: code(url.Values{"code_challenge": {challenge}}),
			CodeVerifier: strings.Repeat("w", 43)},
		"the challenge": {Code: code(url.Values{"code_challenge": {challenge}}), CodeVerifier: challenge},
		"a verifier for a code that was started without": {Code: code(nil), CodeVerifier: verifier},
	} {
		_, err := s.sessions.ExchangeLoginCode(t.Context(), r)
		if e := errs.As(err); e == nil || e.Reason != "LOGIN_CODE_INVALID" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.sessions.ExchangeLoginCode(t.Context(),
		&authv1.ExchangeLoginCodeRequest{Code: code(url.Values{"code_challenge": {challenge}}),
			CodeVerifier: verifier}); err != nil {
		t.Error(err)
	}
	status, _ := open(t, browser(t), s.http+"/oauth/corp/start?"+url.Values{"return_to": {returnTo},
		"code_challenge": {"plain"}}.Encode())
	if status != http.StatusBadRequest {
		t.Error(status)
	}
}

func TestOverHTTPSTheCookieIsForThisHostOnly(t *testing.T) {
	s, _ := withProvider(t, "PURSER_HTTP_BASE_URL=https://auth.example")
	resp, err := browser(t).Get(s.http + "/oauth/corp/start?" + url.Values{"return_to": {returnTo}}.Encode())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	c := resp.Cookies()
	if len(c) != 1 || !strings.HasPrefix(c[0].Name, "__Host-") || !c[0].HttpOnly || !c[0].Secure ||
		c[0].SameSite != http.SameSiteLaxMode || c[0].Path != "/" || c[0].Domain != "" || c[0].MaxAge != 300 {
		t.Errorf("%v", resp.Header)
	}
	if to := must(t, resp.Header.Get("Location")).Query(); to.Get(
		"redirect_uri") != "https://auth.example/oauth/callback" {
		t.Error(to)
	}
}

// A login code that somebody intercepted signs in without the provider.
func TestNoLoginCodeOutlivesTheEndOfEverything(t *testing.T) {
	s, p := withProvider(t)
	codeOf := func() string {
		b := browser(t)
		_, to := open(t, b, s.startHosted(t, b, p, nil))
		return must(t, to).Query().Get("code")
	}
	exchange := func(code string) (*authv1.ExchangeLoginCodeResponse, error) {
		return s.sessions.ExchangeLoginCode(t.Context(), &authv1.ExchangeLoginCodeRequest{Code: code})
	}
	mine, err := exchange(codeOf())
	if err != nil {
		t.Fatal(err)
	}
	stolen := codeOf()
	if _, err := s.identities.EndEverything(grpcclient.WithToken(t.Context(), mine.GetTokens().GetAccessToken()),
		&authv1.EndEverythingRequest{}); err != nil {
		t.Fatal(err)
	}
	_, err = exchange(stolen)
	want(t, err, errs.KindUnauthenticated, "SESSION_REVOKED")
	if _, err := exchange(codeOf()); err != nil { // the control: the identity stays
		t.Error(err)
	}
}
