package suitetest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/testkit"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/services/devstack/programs"
	"github.com/purserhq/purser/services/devstack/suite"
)

// git runs git in the checkout.
func git(t *testing.T, args ...string) (string, error) {
	t.Helper()
	c := exec.CommandContext(t.Context(), "git", append([]string{"-C", "../../.."}, args...)...)
	out, err := c.Output()
	return strings.TrimSpace(string(out)), err
}

// releaseBefore is the revision that this one is tried beside: PURSER_BEFORE, the last release, or the commit before.
func releaseBefore(t *testing.T) string {
	t.Helper()
	revision := os.Getenv("PURSER_BEFORE")
	if revision == "" {
		tag, err := git(t, "describe", "--tags", "--abbrev=0", "--match", "v[0-9]*", "HEAD~1")
		if revision = tag; err != nil {
			revision = "HEAD~1"
		}
	}
	commit, err := git(t, "rev-parse", "--verify", "--quiet", revision+"^{commit}")
	if err != nil {
		t.Skipf("this checkout does not have the commit %s: there is nothing to run beside this one", revision)
	}
	changed, err := git(t, "diff", "--name-only", "--diff-filter=MDR", commit, "--", "services/*/migrations/*.sql")
	if err != nil {
		t.Fatal(err)
	}
	if changed != "" {
		t.Skipf("migrations of %s were changed, as they may be before the first release: %s", revision, changed)
	}
	return commit
}

// Each service runs as this release and as the one before, on one database and one Redis. wallet and portfolio of one
// release call auth and wallet of the other one. Then each of the two is replaced by the other release: an upgrade and
// its way back. No call fails, also without retries. In an ordinary run this release is both of them.
func TestNoCallFailsBesideTheReleaseBefore(t *testing.T) {
	before := builtPrograms(t)
	if os.Getenv("PURSER_BEFORE") != "" || testkit.Size(0, 1) == 1 { // building another revision takes minutes
		var err error
		if before, err = programs.BuildRevision(t.Context(), "../../..", releaseBefore(t), t.TempDir()); err != nil {
			t.Fatal(err)
		}
	}
	b := startInfrastructure(t, suite.Options{})
	// Migrates, as is done before a rollout, and makes the accounts of the services.
	e := startPrograms(t, b)
	c := dial(t, e)
	as := make([]context.Context, users)
	for i := range as {
		as[i], _ = signIn(t, c)
		addWallet(t, as[i], c, fmt.Sprintf("eip155:%d:%s", b.Chain.ChainID(), b.Chain.Holders()[i%2]))
	}
	pairs := startCrosswise(t, b, e, [2]string{before, builtPrograms(t)})
	countsAMissingMethod(t, pairs["auth"], as) // before the parts of the test, with which the programs end
	rounds := testkit.Size(1, 5)
	for _, service := range []string{"portfolio", "wallet", "auth"}[:testkit.Size(1, 3)] {
		t.Run(service, func(t *testing.T) {
			r := pairs[service]
			_, loads, stop := startLoads(t, r, service, as)
			for range rounds {
				for i := range r.of { // the release before by this one, this one by the one before
					mine := r.of[i].program
					r.of[i].program = r.of[1-i].program
					restart(t, r, i, loads)
					r.of[i].program = mine
					restart(t, r, i, loads)
				}
			}
			stop()
			made, failed, _ := count(t, loads)
			testkit.Figure(t, "%s: %d calls to this release beside the one before, each replaced by the other %d "+
				"times; failed: %d", service, made, rounds, failed)
		})
	}
}

// startCrosswise starts each service twice, of two releases. What one of them calls is of the other release.
func startCrosswise(t *testing.T, b *suite.Infrastructure, e suite.Endpoints, dirs [2]string) map[string]*replicas {
	t.Helper()
	pairs := map[string]*replicas{"auth": newReplicas(t), "wallet": newReplicas(t), "portfolio": newReplicas(t)}
	for i, dir := range dirs {
		other := e
		other.Auth, other.Wallet = pairs["auth"].addrs[1-i], pairs["wallet"].addrs[1-i]
		for service, environ := range map[string][]string{"auth": b.AuthEnviron(), "wallet": b.WalletEnviron(other),
			"portfolio": b.PortfolioEnviron(other)} {
			pairs[service].of[i] = replica{filepath.Join(dir, service), environ}
		}
	}
	for _, service := range []string{"auth", "wallet", "portfolio"} {
		for i := range dirs {
			pairs[service].start(t, i)
		}
	}
	for _, r := range pairs {
		for _, addr := range r.addrs {
			if err := suite.Healthy(t.Context(), addr); err != nil {
				t.Fatal(err)
			}
		}
	}
	return pairs
}

// countsAMissingMethod is the control: a call that one of two releases does not have is counted as failed.
func countsAMissingMethod(t *testing.T, r *replicas, as []context.Context) {
	t.Helper()
	conn := r.dial(t, nil)
	missing := func(ctx context.Context, opts ...grpc.CallOption) error {
		return conn.Invoke(ctx, "/"+authv1.AccountService_ServiceDesc.ServiceName+"/OfTheNextRelease",
			&authv1.GetMeRequest{}, &authv1.GetMeResponse{}, opts...)
	}
	l := &load{to: r, as: as, calls: []caller{missing}}
	l.call(0)
	first := l.first.Load()
	if first == nil || l.failed.Load() != 1 {
		t.Fatal("a call of a method that nobody serves did not fail")
	}
	if e := errs.As(*first); e == nil || e.Reason != "METHOD_UNKNOWN" {
		t.Errorf("a call of a method that nobody serves failed with %v", *first)
	}
}
