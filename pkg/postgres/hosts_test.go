package postgres_test

import (
	"context"
	"net/url"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/faultproxy"
)

// twoHosts returns the URL of a database by two proxies, which stand for two servers of which either can hang.
func twoHosts(t *testing.T) (string, [2]*faultproxy.Proxy) {
	t.Helper()
	u, err := url.Parse(testkit.Postgres(t, nil).URL)
	if err != nil {
		t.Fatal(err)
	}
	proxies := [2]*faultproxy.Proxy{testkit.Proxy(t, u.Host), testkit.Proxy(t, u.Host)}
	u.Host = proxies[0].Addr() + "," + proxies[1].Addr()
	return u.String(), proxies
}

// hangs has a host take connections and never answer, as a process that is stopped or a machine that thrashes.
func hangs(p *faultproxy.Proxy) { p.ToServer(faultproxy.Fault{Blackhole: true}) }

func TestAHostThatHangsDelaysOneConnection(t *testing.T) {
	url, proxies := twoHosts(t)
	const timeout = 3 * time.Second
	db := open(t, postgres.Options{URL: url, Lazy: true, ConnectTimeout: timeout})
	connect := func(what string, delayed bool) {
		t.Helper()
		begun := time.Now()
		conn, err := db.SQL().Conn(t.Context()) // which is kept: each is a new one
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if took := time.Since(begun); delayed != (took >= timeout) {
			t.Errorf("%s took %s", what, took)
		}
	}
	if both := proxies[0].Addr() + "," + proxies[1].Addr(); db.Address() != both {
		t.Errorf("the address is %s, want %s", db.Address(), both)
	}
	hangs(proxies[0])
	connect("the first connection", true)
	connect("the second", false)
	connect("the third", false)
	proxies[0].Heal()
	hangs(proxies[1]) // and the other is promoted
	connect("the first after the change", true)
	connect("the second after the change", false)
}

// A check has less time than a connection may take, and must not say that the database is unavailable because one of
// its hosts hangs.
func TestAHostThatHangsTakesNoMoreThanItsShareOfTheTime(t *testing.T) {
	url, proxies := twoHosts(t)
	hangs(proxies[0])
	db := open(t, postgres.Options{URL: url, Lazy: true, ConnectTimeout: 10 * time.Second})
	for _, check := range []func(context.Context) error{db.Probe, db.Accepts, db.Ping} {
		ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
		if err := check(ctx); err != nil {
			t.Error(err)
		}
		cancel()
	}
}

func TestOfOneNameTheAddressOfTheLastConnectionIsTriedFirst(t *testing.T) {
	resolved := []string{"10.0.0.1", "10.0.0.2", "10.0.0.3"}
	for last, want := range map[string]string{"": "10.0.0.1", "10.0.0.2:5432": "10.0.0.2",
		"10.0.0.9:5432": "10.0.0.1"} {
		got := postgres.OrderOfAddresses(t.Context(), resolved, last)
		if got[0] != want || len(got) != len(resolved) {
			t.Errorf("after %q: %v", last, got)
		}
	}
}
