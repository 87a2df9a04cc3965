// Package idp speaks to identity providers: those of OpenID Connect by their
// discovery document, and GitHub by its API.
//
// It promises: a provider is given five seconds and read one megabyte of an
// answer; nothing is asked of an address that isn't public, whatever a name
// resolves to when it is connected to, nor over plain HTTP, unless the
// provider is allowed to be private; no redirect leads to another host.
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
)

const (
	timeout   = 5 * time.Second
	maxAnswer = 1 << 20
	maxHeader = 64 << 10
)

// reserved are the networks that aren't public beside those that netip knows:
// RFC 6890 and what can carry an address of another network inside.
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

// isPublic reports whether an address is of the public internet.
func isPublic(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return a.IsGlobalUnicast() && !a.IsPrivate() &&
		!slices.ContainsFunc(reserved(), func(p netip.Prefix) bool { return p.Contains(a) })
}

// newClient returns a client for one provider. No proxy is used: what it
// connects to couldn't be told.
func newClient(allowPrivate bool) *http.Client {
	dialer := &net.Dialer{Timeout: timeout}
	if !allowPrivate {
		// Asked with the address that is about to be connected to, so a name
		// that resolves to another one by now is caught too.
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
		Transport: guarded{plain: allowPrivate, next: &http.Transport{
			DialContext: dialer.DialContext, ForceAttemptHTTP2: true, TLSHandshakeTimeout: timeout,
			MaxResponseHeaderBytes: maxHeader, MaxConnsPerHost: 32, MaxIdleConns: 8, IdleConnTimeout: time.Minute,
		}},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) > 3 || r.URL.Host != via[0].URL.Host {
				return errors.New("a redirect to another host, or one too many")
			}
			return nil
		},
	}
}

// guarded refuses plain HTTP and cuts answers that are too large.
type guarded struct {
	plain bool
	next  http.RoundTripper
}

func (g guarded) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && !g.plain {
		return nil, errors.New("a provider is asked over https only")
	}
	resp, err := g.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	resp.Body = &cut{ReadCloser: resp.Body, left: maxAnswer}
	return resp, nil
}

// cut is a body that fails past its limit, so that half an answer is never
// taken for a whole one.
type cut struct {
	io.ReadCloser
	left int64
}

func (c *cut) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errors.New("the answer is larger than a megabyte")
	}
	n, err := c.ReadCloser.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	return n, err
}

// bounded is ctx with the time that a provider is given.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, timeout)
}
