// Package idp is the client of identity providers: OpenID Connect providers by
// discovery (OpenID Connect Discovery 1.0), and GitHub by its API.
//
// It promises: a request ends within five seconds and reads at most one megabyte
// of a response; unless the provider has AllowPrivate, connections are made over
// https to public addresses only, checked after name resolution (no SSRF by DNS);
// redirects to another host are refused.
//
// Limits: no HTTP proxy is used. A provider's metadata may be up to 24 hours old
// while it is unavailable.
package idp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/go-jose/go-jose/v4/json"

	"github.com/purserhq/purser/pkg/httpx"
	"github.com/purserhq/purser/pkg/redact"
	"github.com/purserhq/purser/services/internal/httponly"
)

const (
	timeout          = 5 * time.Second
	maxResponseBytes = 1 << 20
	maxHeaderBytes   = 64 << 10
)

// reserved returns the networks that are not public and not known to netip: those
// of RFC 6890, and those whose addresses embed an address of another network.
func reserved() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"),
		netip.MustParsePrefix("192.0.0.0/24"),
		netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("192.88.99.0/24"),
		netip.MustParsePrefix("198.18.0.0/15"),
		netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24"),
		netip.MustParsePrefix("240.0.0.0/4"),
		netip.MustParsePrefix("::/96"), netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"),
		netip.MustParsePrefix("100::/64"), netip.MustParsePrefix("2001::/23"), netip.MustParsePrefix("2001:db8::/32"),
		netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("fec0::/10"),
	}
}

// isPublic reports whether an address belongs to the public internet.
func isPublic(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return a.IsGlobalUnicast() && !a.IsPrivate() &&
		!slices.ContainsFunc(reserved(), func(p netip.Prefix) bool { return p.Contains(a) })
}

// newClient returns a client for one provider. It uses no proxy, because the
// addresses that a proxy connects to can't be checked.
func newClient(allowPrivate bool) *http.Client {
	dialer := &net.Dialer{Timeout: timeout}
	if !allowPrivate {
		// Control is called with the resolved address, so a name that resolves
		// differently from before (DNS rebinding) is checked too.
		dialer.Control = func(_, address string, _ syscall.RawConn) error {
			at, err := netip.ParseAddrPort(address)
			if err != nil || !isPublic(at.Addr()) {
				return fmt.Errorf("%s is not a public address", address)
			}
			return nil
		}
	}
	return &http.Client{
		Timeout: timeout,
		Transport: guardedTransport{allowHTTP: allowPrivate, next: httponly.Transport(httpx.NoticeLost(&http.Transport{
			DialContext: dialer.DialContext, ForceAttemptHTTP2: true, TLSHandshakeTimeout: timeout,
			MaxResponseHeaderBytes: maxHeaderBytes, MaxConnsPerHost: 32, MaxIdleConns: 8, IdleConnTimeout: time.Minute,
		}))},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) > 3 || r.URL.Host != via[0].URL.Host {
				return errors.New("a redirect to another host, or one too many")
			}
			return nil
		},
	}
}

// guardedTransport refuses plain HTTP and limits the size of responses.
type guardedTransport struct {
	allowHTTP bool
	next      http.RoundTripper
}

func (g guardedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && !g.allowHTTP {
		return nil, errors.New("plain http is not allowed for this provider")
	}
	resp, err := g.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	resp.Body = &limitedBody{ReadCloser: resp.Body, left: maxResponseBytes}
	return resp, nil
}

// limitedBody is a body that fails at its limit, so that a truncated response is
// never parsed.
type limitedBody struct {
	io.ReadCloser
	left int64
}

func (c *limitedBody) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errors.New("the response is larger than a megabyte")
	}
	n, err := c.ReadCloser.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	return n, err
}

// withTimeout bounds an operation on a provider by timeout.
func withTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, timeout)
}

// requestJSON sends a request with a bearer token and decodes the JSON response. It
// compares names exactly, and refuses one that stands twice.
func requestJSON(client *http.Client, r *http.Request, token string, into any) error {
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Accept", "application/json")
	resp, err := client.Do(r)
	if err != nil {
		return unavailable(redact.Error(err, token))
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return unavailable(err)
	case resp.StatusCode >= 500, resp.StatusCode == http.StatusTooManyRequests:
		return unavailable(fmt.Errorf("status %d", resp.StatusCode))
	case resp.StatusCode != http.StatusOK:
		return invalid(fmt.Errorf("status %d", resp.StatusCode))
	}
	if err := json.Unmarshal(body, into); err != nil {
		return invalid(err)
	}
	return nil
}
