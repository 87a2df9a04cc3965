package app_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/purserhq/purser/services/auth/app"
)

// startFrom opens the start page with what a proxy says, until one is refused,
// and returns how many were not.
func (s service) startFrom(t *testing.T, most int, forwarded func(n int) []string) int {
	t.Helper()
	for n := range most {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet,
			s.http+"/oauth/corp/start?"+url.Values{"return_to": {returnTo}}.Encode(), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header["X-Forwarded-For"] = forwarded(n)
		resp, err := browser(t).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusTooManyRequests {
			return n
		}
		if resp.StatusCode != http.StatusFound {
			t.Fatal(resp.Status)
		}
	}
	return most
}

func TestClientsBehindATrustedProxyAreCountedSeparately(t *testing.T) {
	const limit = "PURSER_ATTEMPTS_PER_ADDRESS=3"
	s, _ := withProvider(t, limit, "PURSER_OAUTH_TRUSTED_PROXIES=127.0.0.0/8,10.0.0.0/8")
	for name, tc := range map[string]struct {
		forwarded func(n int) []string
		apart     bool
	}{
		"others": {func(n int) []string { return []string{fmt.Sprintf("192.0.2.%d", n)} }, true},
		"others, by two proxies": {func(
			n int) []string {
			return []string{fmt.Sprintf("198.51.100.%d, 10.1.1.1", n)}
		}, true},
		"others, in two headers": {func(
			n int) []string {
			return []string{fmt.Sprintf("198.51.100.%d", 100+n), "10.1.1.1"}
		}, true},
		"one who says they are others": {func(
			n int) []string {
			return []string{fmt.Sprintf("192.0.2.%d", 100+n), "203.0.113.7"}
		}, false},
		"one who says nonsense before": {func(n int) []string { return []string{fmt.Sprintf("x%d, 203.0.113.8", n)} },
			false},
		"nonsense": {func(n int) []string { return []string{fmt.Sprintf("x%d", n)} }, false},
		"one of a /64": {func(n int) []string { return []string{fmt.Sprintf("2001:db8::%d", n)} },
			false},
	} {
		t.Run(name, func(t *testing.T) {
			if n := s.startFrom(t, 20, tc.forwarded); (n == 20) != tc.apart {
				t.Errorf("%d were let through", n)
			}
		})
	}
	s, _ = withProvider(t, limit) // the control: nobody is believed
	if n := s.startFrom(t, 20, func(n int) []string { return []string{fmt.Sprintf("192.0.2.%d", n)} }); n == 20 {
		t.Error("whoever sends the header is believed")
	}
	for _, wrong := range []string{"10.0.0.1", "all", "0.0.0.0/0", "::/0"} {
		_, err := app.Load(append(environ("postgres://db.example/auth"),
			"PURSER_OAUTH_TRUSTED_PROXIES=10.0.0.0/8,"+wrong))
		if err == nil || !strings.Contains(err.Error(), "PURSER_OAUTH_TRUSTED_PROXIES") {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}
