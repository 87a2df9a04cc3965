package webhook

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"

	"code.dny.dev/ssrf"

	"github.com/purserhq/purser/pkg/errs"
)

// maxURL is the longest URL, which the contract states.
const maxURL = 2000

// Rules say where messages may be posted to. The zero value allows https to public addresses.
type Rules struct {
	// AllowHTTP allows http too.
	AllowHTTP bool
	// Allow are ranges of addresses that are allowed though they are not public.
	Allow []netip.Prefix
}

// guard checks addresses: those of the special-purpose registries of IANA are refused, and all of IPv6 that isn't
// global unicast, so also IPv4 addresses that are mapped into it.
func (r Rules) guard() *ssrf.Guardian {
	var v4, v6 []netip.Prefix
	for _, p := range r.Allow {
		if p.Addr().Is4() {
			v4 = append(v4, p)
		} else {
			v6 = append(v6, p)
		}
	}
	return ssrf.New(ssrf.WithAnyPort(), ssrf.WithAllowedV4Prefixes(v4...), ssrf.WithAllowedV6Prefixes(v6...),
		// IANA has no row for it: https://www.rfc-editor.org/rfc/rfc5771 of multicast.
		ssrf.WithDeniedV4Prefixes(netip.MustParsePrefix("224.0.0.0/4")))
}

// control is the Control of a net.Dialer.
func (r Rules) control() func(network, address string, c syscall.RawConn) error {
	return r.guard().Safe
}

// CheckURL returns errs.Invalid on url for one that no message may be posted to. It says nothing of what a host name
// resolves to: that is checked when it is connected to.
func (r Rules) CheckURL(text string) error {
	if why := r.whyNot(text); why != "" {
		// What was given may contain a key.
		return errs.Invalid("url", why+", "+errs.GivenSecret(text))
	}
	return nil
}

func (r Rules) whyNot(text string) string {
	schemes := "https"
	if r.AllowHTTP {
		schemes = "https or http"
	}
	form := fmt.Sprintf("must be %s://host[:port]/path?query of printable ASCII characters, at most %d", schemes,
		maxURL)
	printable := !strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c > '~' })
	if text == "" || len(text) > maxURL || !printable {
		return form
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Opaque != "" || u.Scheme != "https" && (u.Scheme != "http" || !r.AllowHTTP):
		return form
	case u.User != nil:
		return "must have no user and no password: messages are signed instead"
	case u.Fragment != "" || strings.Contains(text, "#"):
		return "must have no fragment, which is not sent"
	case u.Hostname() == "" || checkPort(u) != nil:
		return form
	}
	if addr, err := netip.ParseAddr(u.Hostname()); err == nil {
		if addr.Zone() != "" || r.guard().SafeAddr(addr) != nil {
			return "must not name an address that is private, local or reserved"
		}
	} else if !hostName(u.Hostname()) {
		return "must name a host by its DNS name, or by an IP address in its usual form"
	}
	return ""
}

func checkPort(u *url.URL) error {
	if u.Port() == "" {
		if strings.HasSuffix(u.Host, ":") {
			return errors.New("no port")
		}
		return nil
	}
	n, err := strconv.ParseUint(u.Port(), 10, 16)
	if err == nil && n == 0 {
		err = errors.New("port 0")
	}
	return err
}

// hostName reports whether a text may be a DNS name. One whose last label begins with a digit is none (RFC 3696,
// section 2): such as 127.1 and 0x7f000001 are IPv4 addresses to some.
func hostName(text string) bool {
	labels := strings.Split(strings.TrimSuffix(text, "."), ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 || strings.Trim(l, "-") != l || strings.ContainsFunc(l, func(c rune) bool {
			return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_'
		}) {
			return false
		}
	}
	last := labels[len(labels)-1]
	return len(text) <= 253 && (last[0] < '0' || last[0] > '9')
}
