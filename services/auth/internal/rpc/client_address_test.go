package rpc

import (
	"net/netip"
	"testing"

	"github.com/purserhq/purser/pkg/grpcserver"
	"github.com/purserhq/purser/services/auth/internal/authority"
)

// A call is known to come from outside, whether or not it has a caller.
func TestACallIsServed(t *testing.T) {
	if authority.WithoutCaller(WithClient(nil)(t.Context())).All {
		t.Error("a call without a caller holds everything")
	}
	if !authority.WithoutCaller(t.Context()).All {
		t.Error("the command line holds nothing")
	}
}

// What is taken for an address is one, of one host, and stands for one block.
func FuzzForwardedAddress(f *testing.F) {
	for _, seed := range []string{
		"192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1", "fe80::1%eth0", "0.0.0.0", "::", "224.0.0.1", "192.0.2.1:80",
		"[::1]",
		"192.0.2.1, 198.51.100.2", " 192.0.2.1", "192.0.2.01", "1", "", "\x00", "::ffff:0.0.0.0", "for=192.0.2.1",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, ok := parseAddress(text)
		if !ok {
			return
		}
		if !a.IsValid() || a.Zone() != "" || a.Is4In6() || a.IsUnspecified() || a.IsMulticast() || len(text) > 45 {
			t.Fatalf("%q is taken for %s", text, a)
		}
		if again, ok := parseAddress(a.String()); !ok || again != a {
			t.Fatalf("%q is read as %s, and that as %s", text, a, again)
		}
		block := grpcserver.AddressBlock(a)
		if p, err := netip.ParsePrefix(block); a.Is6() && (err != nil || p.Bits() != 64 || !p.Contains(a)) ||
			a.Is4() && block != a.String() {
			t.Fatalf("%q is counted as %q", text, block)
		}
	})
}
