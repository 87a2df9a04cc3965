package console_test

import (
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/pquerna/otp/totp"

	"github.com/purserhq/purser/pkg/testkit"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/internal/terminal"
)

// An address with a character that a shell and HTML treat specially.
const own = "o'hara&sons@example.com"

// TestAnyAccountSignsInOnThePage goes the way of somebody without an account, on a console without a demo: they run
// the commands that the page shows until it shows their portfolio.
func TestAnyAccountSignsInOnThePage(t *testing.T) {
	s := startStage(t, withoutDemo)
	b := openBrowser(t, s.console.URL())
	b.shows("#h-value + p", "Sign in with an account of this suite to see its portfolio.")
	for _, width := range []int64{390, 1400} {
		b.resize(width)
		b.isFaultless(width)
	}
	b.click("#d-register summary")
	s.runs(t, b.commands("#d-register pre code"), "you@example.com", own)

	b.signIn(own, "not the password", "")
	b.shows(".sign-in [role=alert]", "the e-mail address or the password is wrong")
	if got := eval[string](b, "document.querySelector('[name=email]').value+document.querySelector("+
		"'[name=password]').value"); got != own {
		t.Errorf("after a refusal the form has %q", got)
	}
	b.signIn(own, password, "")
	b.shows("#account .who", own)
	b.shows("#no-wallets", "has no wallet")
	for _, width := range []int64{390, 1400} {
		b.resize(width)
		b.isFaultless(width)
	}
	b.do(chromedp.Evaluate[chromedp.Void]("window.loaded = 'once'"))
	s.runs(t, b.commands("#no-wallets pre code"))
	b.shows("#holdings tbody th", "WETH")
	as := s.as(t, own, "")
	testkit.Eventually(t, pageTimeout, func() bool {
		resp, err := s.clients.Portfolios.GetValuation(as, &portfoliov1.GetValuationRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return b.text("#total")[0] == terminal.Money(resp.GetValuation().GetTotal())
	})
	if eval[string](b, "window.loaded ?? ''") != "once" {
		t.Error("the page was loaded again")
	}
	s.keepsTokensToItself(t, b)
	s.asksForASecondFactor(t, b)
	if got := b.foreignRequests(s.console.URL()); len(got) > 0 {
		t.Errorf("the page sent requests to other hosts: %q", got)
	}
}

// TestAnEndedSessionSaysSo ends the session of an open page elsewhere.
func TestAnEndedSessionSaysSo(t *testing.T) {
	s := startStage(t)
	if _, err := s.clients.Accounts.Register(t.Context(),
		&authv1.RegisterRequest{Email: own, Password: password}); err != nil {
		t.Fatal(err)
	}
	b := openBrowser(t, s.console.URL())
	b.shows("#account", email+" demo Sign in")
	b.shows("#holdings tbody th", "WETH")
	b.click("#account > summary")
	b.signIn(own, password, "")
	b.shows("#account .who", own)
	b.shows("#no-wallets", own+" has no wallet")
	if got := b.text("#holdings tbody th"); len(got) > 0 {
		t.Errorf("the demo's holdings are shown to another account: %q", got)
	}
	if _, err := s.clients.Sessions.LogoutAll(s.as(t, own, ""), &authv1.LogoutAllRequest{}); err != nil {
		t.Fatal(err)
	}
	b.shows("header", "Your session has ended.")
	b.signIn(own, password, "")
	testkit.Eventually(t, pageTimeout, func() bool { return !strings.Contains(b.text("header")[0], "ended") })
	b.click("#sign-out")
	b.shows("#account", email+" demo Sign in")
	b.shows("#holdings tbody th", "WETH")
}

// keepsTokensToItself checks what the browser has: a cookie that scripts and other sites do not get, and which is
// nothing without this console.
func (s *stage) keepsTokensToItself(t *testing.T, b *browser) {
	t.Helper()
	if page := eval[string](b, "document.documentElement.outerHTML + document.cookie"); strings.Contains(page, "eyJ") {
		t.Error("a token is on the page")
	}
	cookie, device := b.cookies()
	if !device.HTTPOnly || device.SameSite != network.CookieSameSiteStrict || device.Session ||
		!strings.HasSuffix(device.Name, "_device") || device.Value == "" {
		t.Errorf("the cookie of the device is %+v", device)
	}
	if !cookie.HTTPOnly || cookie.SameSite != network.CookieSameSiteStrict || strings.Contains(cookie.Value, "eyJ") {
		t.Errorf("the cookie is %+v", cookie)
	}
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	client := &http.Client{CheckRedirect: stay}
	send := func(path string, header map[string]string, form url.Values) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.console.URL()+path,
			strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Cookie", cookie.Name+"="+cookie.Value)
		for name, value := range header {
			r.Header.Set(name, value)
		}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	foreign := map[string]string{"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:1"}
	credentials := url.Values{"email": {email}, "password": {password}}
	if got := send("sign-out", foreign, nil); got != http.StatusForbidden {
		t.Errorf("another page's sign-out is answered with %d", got)
	}
	if got := send("sign-in", foreign, credentials); got != http.StatusForbidden {
		t.Errorf("another page's sign-in is answered with %d", got)
	}
	if got := send("sign-in", nil, url.Values{"email": {strings.Repeat("a", 9000)}}); got != http.StatusBadRequest {
		t.Errorf("a form of 9000 bytes is answered with %d", got)
	}
	b.do(chromedp.Reload())
	b.shows("#account .who", own)
	if got := send("sign-out", map[string]string{"Sec-Fetch-Site": "same-origin"}, nil); got != http.StatusSeeOther {
		t.Errorf("the page's own sign-out is answered with %d", got)
	}
	// The open page notices that its session is over.
	b.shows("#h-value + p", "Sign in with an account of this suite to see its portfolio.")
}

// asksForASecondFactor turns one on for the account and signs in with it.
func (s *stage) asksForASecondFactor(t *testing.T, b *browser) {
	t.Helper()
	as := s.as(t, own, "")
	made, err := s.clients.Sessions.EnrollTotp(as, &authv1.EnrollTotpRequest{})
	if err != nil {
		t.Fatal(err)
	}
	code, err := totp.GenerateCode(made.GetSecret(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	confirmed, err := s.clients.Sessions.ConfirmTotp(as, &authv1.ConfirmTotpRequest{TotpCode: code})
	if err != nil {
		t.Fatal(err)
	}
	b.signIn(own, password, "")
	b.shows(".sign-in [role=alert]", "This account has a second factor")
	b.signIn(own, password, "000000")
	b.shows(".sign-in [role=alert]", "The second factor code is wrong")
	b.signIn(own, password, confirmed.GetRecoveryCodes()[0])
	b.shows("#account .who", own)
	before, err := s.clients.Sessions.ListSessions(s.as(t, own, confirmed.GetRecoveryCodes()[1]),
		&authv1.ListSessionsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	b.click("#sign-out")
	b.shows("#h-value + p", "Sign in with an account")
	after, err := s.clients.Sessions.ListSessions(s.as(t, own, confirmed.GetRecoveryCodes()[2]),
		&authv1.ListSessionsRequest{})
	if err != nil || len(after.GetSessions()) != len(before.GetSessions()) { // one more of the test's own
		t.Errorf("%d sessions before signing out, %d after, %v", len(before.GetSessions()), len(after.GetSessions()),
			err)
	}
}

// signIn fills in the form of the page and sends it.
func (b *browser) signIn(email, password, code string) {
	b.t.Helper()
	b.fill(".sign-in [name=email]", email)
	b.fill(".sign-in [name=password]", password)
	b.fill(".sign-in [name=code]", code)
	b.do(chromedp.Evaluate[chromedp.Void]("window.sent = true"), chromedp.KeyEvent(kb.Enter))
	testkit.Eventually(b.t, pageTimeout, func() bool {
		return eval[bool](b, "window.sent === undefined && document.readyState === 'complete'")
	})
}

// commands returns the texts of elements as they are copied.
func (b *browser) commands(selector string) string {
	b.t.Helper()
	return strings.Join(eval[[]string](b, "[...document.querySelectorAll('"+selector+"')].map((e) => e.textContent)"),
		"\n")
}

// cookies are those of the console: of the session, and of the device.
func (b *browser) cookies() (session, device *network.Cookie) {
	b.t.Helper()
	all, err := chromedp.Call(b.ctx, network.GetCookies, network.GetCookiesParams{})
	if err != nil || len(all.Cookies) != 2 {
		b.t.Fatalf("the cookies are %v, %v", all, err)
	}
	session, device = all.Cookies[0], all.Cookies[1]
	if strings.HasSuffix(session.Name, "_device") {
		session, device = device, session
	}
	return session, device
}

// isFaultless checks the page as it is.
func (b *browser) isFaultless(width int64) {
	b.t.Helper()
	for _, scheme := range []string{"dark", "light"} {
		b.scheme(scheme)
		for _, fault := range append(append(b.layoutFaults(width <= 900), b.lowContrast()...), b.axe()...) {
			b.t.Errorf("%d px, %s: %s", width, scheme, fault)
		}
	}
}

// runs runs a command of the page in a shell, with the test's password and some texts replaced by others. The user's
// grpcurl is that of make grpcurl.
func (s *stage) runs(t *testing.T, command string, replaced ...string) {
	t.Helper()
	checkout, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("make", "-C", checkout, "grpcurl").CombinedOutput(); err != nil {
		t.Fatalf("make grpcurl: %v\n%s", err, out)
	}
	for i, text := range replaced {
		replaced[i] = strings.ReplaceAll(text, "'", `'\''`)
	}
	command = strings.NewReplacer(append(replaced, "correct horse battery", password)...).Replace(command)
	shell := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", command)
	shell.Env = append(shell.Environ(), "PATH="+filepath.Join(checkout, "bin")+":"+os.Getenv("PATH"))
	out, err := shell.CombinedOutput()
	t.Logf("%s\n%s", command, out)
	if err != nil {
		t.Fatal(err)
	}
}
