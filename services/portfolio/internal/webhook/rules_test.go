package webhook_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/portfolio/internal/webhook"
)

// refused are URLs that no webhook goes to, whatever they resolve to.
var refused = []string{
	"", "hook", "https://", "https:///path", "http://example.com/", "ftp://example.com/", "https:example.com",
	"https://user@example.com/", "https://user:secret@example.com/", "https://example.com/#part",
	"https://example.com/#",
	"https://example.com:0/", "https://example.com:65536/", "https://example.com:/", "https://example.com:port/",
	"https://example.com/a b", "https://example.com/\n", "https://exämple.com/", "https://-a.com/", "https://a..com/",
	"https://127.0.0.1/", "https://127.1/", "https://2130706433/", "https://0x7f000001/", "https://0177.0.0.1/",
	"https://0.0.0.0/", "https://10.1.2.3/", "https://172.16.0.1/", "https://192.168.0.1:6379/",
	"https://100.64.0.1/", "https://169.254.169.254/latest/meta-data", "https://192.0.0.192/", "https://198.18.0.1/",
	"https://224.0.0.1/", "https://240.0.0.1/", "https://255.255.255.255/", "https://192.0.2.1/",
	"https://[::]/", "https://[::1]/", "https://[fe80::1]/", "https://[fe80::1%25eth0]/", "https://[fd00:ec2::254]/",
	"https://[ff02::1]/", "https://[::ffff:127.0.0.1]/", "https://[::ffff:8.8.8.8]/", "https://[::127.0.0.1]/",
	"https://[64:ff9b::7f00:1]/", "https://[2002:7f00:1::]/", "https://[2001:db8::1]/", "https://[2001::1]/",
	"https://example.com/" + strings.Repeat("a", 2000),
}

// taken are URLs of which the connection decides.
var taken = []string{
	"https://example.com", "https://example.com/", "https://example.com:8443/hook?key=a%20b",
	"https://a-b.example.com./x",
	"https://xn--exmple-cua.com/", "https://8.8.8.8/", "https://[2606:4700:4700::1111]:443/", "https://redis/",
	"https://localhost/",
}

func TestOnlyURLsOfPublicAddressesAreTaken(t *testing.T) {
	for _, u := range refused {
		err := webhook.Rules{}.CheckURL(u)
		if e := errs.As(err); e == nil || len(e.Violations) != 1 || e.Violations[0].Field != "url" {
			t.Errorf("%q: %v", u, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the error of %q repeats it: %v", u, err)
		}
	}
	for _, u := range taken {
		if err := (webhook.Rules{}).CheckURL(u); err != nil {
			t.Errorf("%q: %v", u, err)
		}
	}
}

// The control of the test above: the setting allows what it says, and nothing besides.
func TestASettingAllowsPrivateRanges(t *testing.T) {
	r := webhook.Rules{AllowHTTP: true, Allow: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"),
		netip.MustParsePrefix("fd00::/8")}}
	for u, want := range map[string]bool{"http://10.1.2.3/": true, "https://[fd00::1]/": true,
		"https://10.2.0.1/": false, "http://[::1]/": false, "http://[::ffff:10.1.2.3]/": false} {
		if err := r.CheckURL(u); (err == nil) != want {
			t.Errorf("%q: %v", u, err)
		}
	}
}

// Whatever text a URL is, what is taken names https, and no address that is refused, in the form that net/http reads.
func FuzzCheckURL(f *testing.F) {
	for _, u := range append(refused, taken...) {
		f.Add(u)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if (webhook.Rules{}).CheckURL(text) != nil {
			return
		}
		req := newRequest(t, text)
		host := req.URL.Hostname()
		if req.URL.Scheme != "https" || req.URL.User != nil || host == "" || req.Host == "" {
			t.Fatalf("%q was taken", text)
		}
		addr, err := netip.ParseAddr(host)
		if err == nil && (!addr.IsGlobalUnicast() || addr.IsPrivate() || addr.Is4In6() || addr.Zone() != "") {
			t.Fatalf("%q was taken, of %s", text, addr)
		}
		if last := strings.TrimSuffix(host, "."); err != nil {
			last = last[strings.LastIndexByte(last, '.')+1:]
			if last == "" || last[0] >= '0' && last[0] <= '9' {
				t.Fatalf("%q was taken, which some read as an IPv4 address", text)
			}
		}
	})
}
