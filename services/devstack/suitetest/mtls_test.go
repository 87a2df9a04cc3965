package suitetest

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/testca"
	"github.com/purserhq/purser/proto/client"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/devstack/programs"
	"github.com/purserhq/purser/services/devstack/suite"
)

// spiffeID is that of a program in the tests of mutual TLS.
func spiffeID(name string) string { return programs.SpiffeID(name) }

// secured are the three programs with mutual TLS, and the folders of their certificates and
// of a gateway's.
type secured struct {
	suite.Endpoints
	running map[string]*process
	folders programs.Certificates
}

// put replaces the certificates of all, issued by one authority, with the bundle of those
// that are trusted.
func (s *secured) put(t *testing.T, issuer *testca.CA, trusted ...*testca.CA) {
	t.Helper()
	var bundle []byte
	for _, ca := range trusted {
		bundle = append(bundle, ca.PEM...)
	}
	for _, name := range []string{"auth", "wallet", "portfolio", "gateway"} {
		cert, key := issuer.Issue(t, testca.Leaf{URIs: []string{spiffeID(name)}})
		if s.folders[name] == nil {
			s.folders[name] = testca.NewFolder(t, bundle, cert, key)
		} else {
			s.folders[name].Put(t, bundle, cert, key)
		}
	}
}

func startSecured(t *testing.T, b *suite.Infrastructure, ca *testca.CA) *secured {
	t.Helper()
	s := &secured{running: map[string]*process{}, folders: programs.Certificates{}}
	s.put(t, ca, ca)
	run := func(name string, more ...string) string {
		environ := suite.Override(s.folders.Environ(b, name, s.Endpoints), more)
		s.running[name] = serve(t, filepath.Join(builtPrograms(t), name), environ)
		return s.running[name].Addrs["grpc"]
	}
	s.Auth = run("auth")
	s.AuthHTTP = s.running["auth"].Addrs["http"]
	s.Wallet = run("wallet")
	s.Portfolio = run("portfolio", "PURSER_CACHE_VALUATION_TTL=0s")
	for _, addr := range []string{s.Auth, s.Wallet, s.Portfolio} {
		s.ready(t, addr)
	}
	return s
}

// as is how a program of the folders calls.
func (s *secured) as(name, addr string) grpcclient.Config {
	f := s.folders[name]
	return grpcclient.Config{Addr: addr, CAFile: f.CA(), TLSCert: f.Cert(), TLSKey: f.Key()}
}

func (s *secured) ready(t *testing.T, addr string) {
	t.Helper()
	testkit.Eventually(t, time.Minute, func() bool { return healthOf(t, s.as("gateway", addr)) == nil })
}

// healthOf asks a server over a connection of its own; nil when it serves.
func healthOf(t *testing.T, c grpcclient.Config) error {
	t.Helper()
	conn, err := grpcclient.Dial(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	resp, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
	if err == nil && resp.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		err = fmt.Errorf("health %s", resp.GetStatus())
	}
	return err
}

// dial connects to all services as the gateway.
func (s *secured) dial() (*client.Clients, error) { return s.folders.Dial(s.Endpoints) }

// newConnections calls all services, over connections that are opened for it.
func (s *secured) newConnections(ctx context.Context) error {
	c, err := s.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	return oneOfEach(ctx, c)
}

// oneOfEach makes a call to each service; that to portfolio calls wallet.
func oneOfEach(ctx context.Context, c *client.Clients) error {
	if _, err := c.Accounts.GetMe(ctx, &authv1.GetMeRequest{}); err != nil {
		return err
	}
	if _, err := c.Wallets.ListWallets(ctx, &walletv1.ListWalletsRequest{}); err != nil {
		return err
	}
	_, err := c.Portfolios.GetValuation(ctx, &portfoliov1.GetValuationRequest{})
	return err
}

// Certificates and their authority are replaced in the three steps of docs/tls.md, while
// calls are made over old and new connections. The last phase is longer than connections
// live, so that those between the services are opened anew.
func TestNoCallFailsWhileAllCertificatesAreReplaced(t *testing.T) {
	b := startInfrastructure(t, suite.Options{})
	first, second := testca.New(t, "first"), testca.New(t, "second")
	s := startSecured(t, b, first)
	kept, err := s.dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kept.Close() })
	ctx, _ := signIn(t, kept)
	addWallet(t, ctx, kept, fmt.Sprintf("eip155:%d:%s", b.Chain.ChainID(), b.Chain.Holders()[0]))
	value, err := kept.Portfolios.GetValuation(ctx, &portfoliov1.GetValuationRequest{})
	if err != nil || len(value.GetValuation().GetPositions()) == 0 {
		t.Fatalf("a portfolio of %v, %v", value, err)
	}

	var made, failed atomic.Int64
	var failure atomic.Pointer[error]
	stop := make(chan struct{})
	var callers sync.WaitGroup
	for _, call := range []func() error{
		func() error { return oneOfEach(ctx, kept) },
		func() error { return s.newConnections(ctx) },
	} {
		callers.Go(func() {
			for tick := time.NewTicker(20 * time.Millisecond); ; {
				select {
				case <-stop:
					return
				case <-tick.C:
				}
				made.Add(1)
				if err := call(); err != nil {
					failed.Add(1)
					failure.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	during := func(d time.Duration) { // calls of at least this time
		t.Helper()
		begun, before := time.Now(), made.Load()
		testkit.Eventually(t, time.Minute+d, func() bool { return time.Since(begun) > d && made.Load() > before+20 })
	}
	during(2 * time.Second)
	s.put(t, first, first, second) // both are trusted
	during(5 * time.Second)
	s.put(t, second, first, second) // certificates of the second
	during(5 * time.Second)
	s.put(t, second, second) // the first is not trusted any more
	during(32 * time.Second)
	close(stop)
	callers.Wait()
	if err := failure.Load(); err != nil {
		t.Errorf("%d of %d rounds of calls failed, the first with: %v", failed.Load(), made.Load(), *err)
	}
	testkit.Figure(t, "%d rounds of calls to three services while the certificates and their authority were "+
		"replaced; failed: %d", made.Load(), failed.Load())

	s.strangers(t, first, second)
}

// strangers are refused, and the log says why.
func (s *secured) strangers(t *testing.T, old, current *testca.CA) {
	t.Helper()
	refused := func(issuer *testca.CA, name, addr string) {
		t.Helper()
		cert, key := issuer.Issue(t, testca.Leaf{URIs: []string{spiffeID(name)}})
		f := testca.NewFolder(t, current.PEM, cert, key)
		err := healthOf(t, grpcclient.Config{Addr: addr, CAFile: f.CA(), TLSCert: f.Cert(), TLSKey: f.Key()})
		if !errs.Is(err, errs.KindUnavailable) {
			t.Errorf("%s at %s: %v", name, addr, err)
		}
	}
	refused(old, "portfolio", s.Wallet)     // an authority of before
	refused(current, "stranger", s.Wallet)  // not in the list
	refused(current, "wallet", s.Portfolio) // in another list
	want := map[string][]string{
		"wallet": {`"reason":"untrusted"`, `"reason":"not_listed"`, `"presented":"` + spiffeID("stranger") + `"`,
			spiffeID("stranger") + " is not in the list of allowed ids: " + spiffeID("portfolio")},
		"portfolio": {`"reason":"not_listed"`, `"presented":"` + spiffeID("wallet") + `"`},
	}
	for _, name := range []string{"portfolio", "wallet", "auth"} {
		p := s.running[name]
		if err := p.end(t, syscall.SIGTERM); err != nil {
			t.Errorf("%s on SIGTERM: %v", name, err)
		}
		for _, text := range append(want[name], `"msg":"TLS files are in use"`) {
			if !strings.Contains(p.text, text) {
				t.Errorf("the log of %s has no %s", name, text)
			}
		}
	}
}
