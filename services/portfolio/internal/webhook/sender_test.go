package webhook_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"code.dny.dev/ssrf"
	"github.com/google/uuid"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/purserhq/purser/services/portfolio/internal/webhook"
)

func newRequest(t testing.TB, url string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// local are rules that allow what tests listen on.
func local() webhook.Rules {
	return webhook.Rules{AllowHTTP: true, Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"),
		netip.MustParsePrefix("::1/128")}}
}

func post(t testing.TB, r webhook.Rules, url string, config *tls.Config) error {
	t.Helper()
	s := webhook.NewSender(r, config)
	defer s.Close()
	return s.Post(t.Context(), url, uuid.NewString(), time.Now(), []byte("{}"), [][]byte{[]byte("secret")})
}

// A name is checked by what it resolves to when it is connected to: localhost passes the check of the URL, as does a
// name that resolves to a public address at that time. Nothing connects then. The control is the setting, with which
// it does.
func TestANameOfAPrivateAddressIsNotConnectedTo(t *testing.T) {
	var connections atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	url := "http://localhost:" + port + "/"
	rules := webhook.Rules{AllowHTTP: true}
	if err := rules.CheckURL(url); err != nil {
		t.Fatalf("%v: nothing is proven", err)
	}
	err := post(t, rules, url, nil)
	if err == nil || err.Error() != "the host is not known, or its address is not allowed" || connections.Load() != 0 {
		t.Errorf("%v, with %d connections", err, connections.Load())
	}
	if err := post(t, local(), url, nil); err != nil || connections.Load() != 1 {
		t.Errorf("with the setting: %v, with %d connections", err, connections.Load())
	}
}

// A name that isn't known is told as one whose address is refused: nobody finds out by webhooks which names there are
// in the network of the service.
func TestAnUnknownHostIsToldAsOneThatIsRefused(t *testing.T) {
	unknown := webhook.WhyFailed(fmt.Errorf("post: %w", &net.DNSError{Err: "no such host", IsNotFound: true}))
	refused := webhook.WhyFailed(fmt.Errorf("post: %w", ssrf.ErrProhibitedIP))
	if unknown != refused {
		t.Errorf("%q of a name that is not known, %q of one whose address is refused", unknown, refused)
	}
}

// What an endpoint does, and whether the message counts as taken.
func TestWhatAnEndpointAnswers(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("a redirect was followed")
	}))
	defer elsewhere.Close()
	for name, tc := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"204":                {status(http.StatusNoContent), ""},
		"500":                {status(http.StatusInternalServerError), "status 500"},
		"a redirect":         {redirectTo(elsewhere.URL, 302), "status 302: redirects are not followed"},
		"a kept redirect":    {redirectTo(elsewhere.URL, 307), "status 307: redirects are not followed"},
		"200 and an end":     {hijacked("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nab"), ""},
		"an end":             {hijacked(""), "the connection failed"},
		"no HTTP":            {hijacked("+PONG\r\n"), "the connection failed"},
		"a body without end": {endless, ""},
		"another protocol":   {switching(t), "the connection failed"},
		"large headers": {hijacked("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n"),
			"the connection failed"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(tc.answer)
			defer server.Close()
			got := ""
			if err := post(t, local(), server.URL, nil); err != nil {
				got = err.Error()
			}
			if got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}

func redirectTo(url string, status int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, url, status) }
}

// hijacked sends bytes and ends the connection.
func hijacked(bytes string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			_, _ = io.WriteString(conn, bytes)
			_ = conn.Close()
		}
	}
}

// switching answers unasked with another protocol than HTTP, and then sends nothing: no timeout of the client ends a
// read of that.
func switching(t *testing.T) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			_, _ = io.WriteString(conn,
				"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
			t.Cleanup(func() { _ = conn.Close() })
		}
	}
}

// endless sends a body until the reader has enough.
func endless(w http.ResponseWriter, _ *http.Request) {
	for block := make([]byte, 32<<10); ; {
		if _, err := w.Write(block); err != nil {
			return
		}
	}
}

// A proxy of the environment would be connected to in place of the endpoint, and the address of that not checked.
func TestAProxyOfTheEnvironmentIsNotUsed(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("the proxy was asked")
	}))
	defer proxy.Close()
	t.Setenv("HTTP_PROXY", proxy.URL)
	t.Setenv("http_proxy", proxy.URL)
	if err := post(t, local(), "http://nowhere.invalid/", nil); err == nil {
		t.Error("the message was taken")
	}
}

func TestCertificatesAreVerified(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.Config.ErrorLog = nil
	defer server.Close()
	if err := post(t, local(), server.URL, nil); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("%v", err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	if err := post(t, local(), server.URL, &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}); err != nil {
		t.Errorf("with its certificate: %v", err)
	}
}

// While a secret is replaced, whoever has one of the two verifies the message; whoever has neither doesn't.
func TestAMessageIsSignedWithEachSecret(t *testing.T) {
	old, fresh, id := []byte("old"), []byte("fresh"), uuid.NewString()
	var verified []string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		for _, secret := range []string{"old", "fresh", "another"} {
			hook, err := standardwebhooks.NewWebhookRaw([]byte(secret))
			if err == nil && hook.Verify(body, r.Header) == nil {
				verified = append(verified, secret)
			}
		}
		if r.Header.Get("Webhook-Id") != id {
			t.Errorf("the id is %q", r.Header.Get("Webhook-Id"))
		}
	}))
	defer server.Close()
	s := webhook.NewSender(local(), nil)
	defer s.Close()
	err := s.Post(t.Context(), server.URL, id, time.Now(), []byte(`{"a":1}`), [][]byte{fresh, old})
	if err != nil || fmt.Sprint(verified) != "[old fresh]" {
		t.Errorf("%v; verified with %v", err, verified)
	}
}
