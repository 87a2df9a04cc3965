package app

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/services/auth/internal/attempts"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/challenge"
	"github.com/purserhq/purser/services/auth/internal/identity"
	"github.com/purserhq/purser/services/auth/internal/idp"
	"github.com/purserhq/purser/services/auth/internal/oauth"
	"github.com/purserhq/purser/services/auth/internal/session"
	"github.com/purserhq/purser/services/auth/internal/web"
)

// challengeBudget is how long a sign-in waits for Redis, without which it fails: much longer than a cache would, which
// has somewhere else to ask. Somebody who waits two seconds is better off than somebody who has to start again.
const challengeBudget = 2 * time.Second

// OAuthConfig is of signing in with accounts at identity providers.
type OAuthConfig struct {
	// Providers is a JSON array, best from PURSER_OAUTH_PROVIDERS_FILE: see
	// docs/sign-in.md. None when empty.
	Providers idp.List `env:"PROVIDERS"`
	// RedirectURIs of apps that call StartOAuth, ReturnTo where the hosted pages
	// may send somebody: each letter by letter, separated by commas.
	RedirectURIs []string `env:"REDIRECT_URIS"`
	ReturnTo     []string `env:"RETURN_TO"`
	// TrustedProxies are the networks, separated by commas, of the proxies in
	// front of the HTTP port: who comes through them is counted by what they
	// put in X-Forwarded-For.
	TrustedProxies []string `env:"TRUSTED_PROXIES"`
}

// Validate reports every error in c.
func (c OAuthConfig) Validate() error {
	errs := []error{c.Providers.Validate()}
	for _, list := range []struct {
		name string
		urls []string
	}{{"PURSER_OAUTH_REDIRECT_URIS", c.RedirectURIs}, {"PURSER_OAUTH_RETURN_TO", c.ReturnTo}} {
		for _, u := range list.urls {
			if !isReturnAddress(u) {
				errs = append(errs, fmt.Errorf(
					"%s: %q must begin with https://, with http:// on this machine, or with an app's own scheme "+
						"that has a dot (RFC 8252), and have no fragment", list.name, u))
			}
		}
	}
	if _, err := c.proxies(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (c OAuthConfig) proxies() ([]netip.Prefix, error) {
	var networks []netip.Prefix
	for _, text := range c.TrustedProxies {
		n, err := netip.ParsePrefix(text)
		if err != nil || n.Bits() == 0 {
			return nil, fmt.Errorf("PURSER_OAUTH_TRUSTED_PROXIES: %q must be a network such as 10.0.0.0/8, and not "+
				"all there are", text)
		}
		networks = append(networks, n.Masked())
	}
	return networks, nil
}

// isReturnAddress reports whether somebody may be sent to an address with a
// code: over TLS, on their own machine, or to an app on it.
func isReturnAddress(text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.Fragment != "" || u.User != nil || strings.ContainsAny(text, "#*\\ ") {
		return false
	}
	switch u.Scheme {
	case "https":
		return u.Host != ""
	case "http":
		ip := net.ParseIP(u.Hostname())
		return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	}
	return strings.Contains(u.Scheme, ".")
}

// newOAuth wires signing in with identity providers.
func newOAuth(cfg Config, c challengeStores, identities *identity.Service, sessions *session.Service,
	events audit.Recorder) *oauth.Service {
	return oauth.NewService(oauth.Deps{
		Providers:  idp.Providers(cfg.OAuth.Providers),
		States:     once[oauth.State](c, "oauth_state"),
		Links:      once[oauth.LinkState](c, "oauth_link"),
		Codes:      once[oauth.LoginCode](c, "login_code"),
		Identities: identities, Sessions: sessions, Audit: events, Now: time.Now,
	}, oauth.Addresses{AppRedirectURIs: cfg.OAuth.RedirectURIs, ReturnURLs: cfg.OAuth.ReturnTo,
		Callback: cfg.baseURL() + web.CallbackPath})
}

// challengeStores are where challenges are kept: in Redis, and their uses in Postgres too.
type challengeStores struct {
	redis  cache.Redis
	claims challenge.Claims
}

// once keeps challenges of one kind.
func once[V any](c challengeStores, entity string) challenge.Store[challenge.Stored[V]] {
	return challenge.Claimed[V](cache.NewSingleUse[challenge.Stored[V]](c.redis,
		cache.Namespace{Service: "auth", Entity: entity, Schema: 1}, cache.Options{Budget: challengeBudget}),
		c.claims, time.Now)
}

// httpHandler serves the key set and the hosted pages of signing in.
func httpHandler(cfg Config, keys *http.ServeMux, o *oauth.Service, l *attempts.Limiter,
	log *slog.Logger) (http.Handler,
	error) {
	proxies, err := cfg.OAuth.proxies()
	web.Pages{OAuth: o, Attempts: l, Secure: strings.HasPrefix(cfg.baseURL(), "https://"), Proxies: proxies,
		Log: log}.Register(keys)
	return web.Under(cfg.baseURL(), keys), err
}
