package suitetest

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc/codes"

	"github.com/purserhq/purser/pkg/testkit"
	statusv1 "github.com/purserhq/purser/proto/gen/purser/status/v1"
	"github.com/purserhq/purser/services/devstack/suite"
)

// noticedWithin is the longest time until a service says that a near dependency is unreachable, or is again: an
// interval between checks and a check's timeout, and time for a busy machine.
const noticedWithin = 15 * time.Second

const (
	reachable   = statusv1.DependencyState_DEPENDENCY_STATE_REACHABLE
	unreachable = statusv1.DependencyState_DEPENDENCY_STATE_UNREACHABLE
)

// Postgres, and then Redis, stands still: connections stay open, and nothing answers. Health goes on saying SERVING,
// by design, and GetStatus of every service says what is the matter, at once.
func TestEachServiceSaysWhichDependencyStandsStillAndSinceWhen(t *testing.T) {
	t.Parallel()
	s := start(t)
	c := dial(t, s.Endpoints)
	admin := signInAdmin(t, s, c)
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	services := map[string]statusv1.StatusServiceClient{
		"auth": c.AuthStatus, "wallet": c.WalletStatus, "portfolio": c.PortfolioStatus,
	}
	get := func(service string) *statusv1.GetStatusResponse {
		t.Helper()
		<-poll.C                                               // the calls of a caller are limited
		ctx, cancel := context.WithTimeout(admin, time.Second) // also while a dependency is frozen
		defer cancel()
		resp, err := services[service].GetStatus(ctx, &statusv1.GetStatusRequest{})
		if err != nil {
			t.Fatalf("%s: %v", service, err)
		}
		return resp
	}
	dependency := func(service, name string) *statusv1.Dependency {
		t.Helper()
		all := get(service).GetDependencies()
		i := slices.IndexFunc(all, func(d *statusv1.Dependency) bool { return d.GetName() == name })
		if i < 0 {
			t.Fatalf("%s has no dependency %s in %v", service, name, all)
		}
		return all[i]
	}
	healthy := func(when string) {
		t.Helper()
		for service, addr := range map[string]string{"auth": s.Endpoints.Auth, "wallet": s.Endpoints.Wallet,
			"portfolio": s.Endpoints.Portfolio} {
			if err := suite.Healthy(t.Context(), addr); err != nil {
				t.Errorf("%s, health of %s: %v", when, service, err)
			}
		}
	}
	for service, names := range map[string]string{
		"auth":      "chain:31337 identity_provider:local identity_provider:local-github mail postgres redis",
		"wallet":    "auth_keys auth_revocations chain:31337 postgres prices prices:coingecko redis",
		"portfolio": "auth_keys auth_revocations postgres redis wallet",
	} {
		testkit.Eventually(t, noticedWithin, func() bool {
			for _, d := range get(service).GetDependencies() {
				if d.GetState() != reachable {
					return false
				}
			}
			return !get(service).GetDegraded()
		})
		var got []string
		for _, d := range get(service).GetDependencies() {
			got = append(got, d.GetName())
			if d.GetLastLatency().AsDuration() < 0 ||
				d.GetMaxLatency().AsDuration() < d.GetMedianLatency().AsDuration() ||
				d.GetEffect() == "" || d.GetAddress() == "" || d.GetReason() != "" {
				t.Errorf("%s: %v", service, d)
			}
		}
		if strings.Join(got, " ") != names {
			t.Errorf("%s depends on %v, want %s", service, got, names)
		}
		if r := get(service); r.GetService() != service || r.GetVersion() == "" ||
			time.Since(r.GetStartTime().AsTime()) > time.Hour {
			t.Errorf("%s: %v", service, r)
		}
	}
	for name, server := range map[string]interface {
		Pause()
		Resume()
	}{"postgres": s.Postgres, "redis": s.Redis} {
		frozen := time.Now()
		server.Pause()
		for service := range services {
			// A check that was under way may have had its first answer before: DATABASE_POOL_STALLED.
			testkit.Eventually(t, noticedWithin, func() bool {
				return dependency(service, name).GetReason() == "TIMEOUT"
			})
			d := dependency(service, name)
			if since := d.GetSinceTime().AsTime(); since.Before(frozen) || time.Since(since) > noticedWithin ||
				d.GetState() != unreachable || d.GetError() == "" || !get(service).GetDegraded() {
				t.Errorf("%s, frozen at %s: %v", service, frozen, d)
			}
			t.Logf("%s: %s after %s: %s", service, name, d.GetSinceTime().AsTime().Sub(frozen), d.GetError())
		}
		healthy(name + " is frozen")
		server.Resume()
		for service := range services {
			testkit.Eventually(t, noticedWithin, func() bool {
				return dependency(service, name).GetState() == reachable
			})
			if d := dependency(service, name); d.GetReason() != "" || d.GetError() != "" ||
				d.GetMaxLatency().AsDuration() < time.Second {
				t.Errorf("%s, after it: %v", service, d)
			}
		}
	}
	user, _ := signIn(t, c)
	_, err := c.WalletStatus.GetStatus(user, &statusv1.GetStatusRequest{})
	wantError(t, err, codes.PermissionDenied, "PERMISSION_MISSING")
}

// A flood of callers costs the database nothing: what they get was found before.
func TestAFloodOfStatusCallsAsksNoDependencyMoreOften(t *testing.T) {
	s := shared(t)
	c := dial(t, s.Endpoints)
	admin := signInAdmin(t, s, c)
	var checked time.Time
	changes := 0
	for begun := time.Now(); time.Since(begun) < 4*time.Second; {
		resp, err := c.PortfolioStatus.GetStatus(admin, &statusv1.GetStatusRequest{})
		if err != nil {
			continue // the limit of calls is reached
		}
		for _, d := range resp.GetDependencies() {
			if at := d.GetCheckTime().AsTime(); d.GetName() == "postgres" && !at.Equal(checked) {
				checked = at
				changes++
			}
		}
	}
	if changes > 4 {
		t.Errorf("in 4 seconds the database was checked %d times, and not every 3 seconds", changes)
	}
}

// A service that is stopped is unreachable for the one that calls it.
func TestPortfolioSaysThatWalletIsStopped(t *testing.T) {
	t.Parallel()
	s := start(t)
	c := dial(t, s.Endpoints)
	admin := signInAdmin(t, s, c)
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	state := func() *statusv1.Dependency {
		<-poll.C // the calls of a caller are limited
		resp, err := c.PortfolioStatus.GetStatus(admin, &statusv1.GetStatusRequest{})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range resp.GetDependencies() {
			if d.GetName() == "wallet" {
				return d
			}
		}
		return nil
	}
	testkit.Eventually(t, noticedWithin, func() bool { return state().GetState() == reachable })
	stopService(t, s, "wallet")
	testkit.Eventually(t, noticedWithin, func() bool { return state().GetState() == unreachable })
	if d := state(); d.GetReason() != "REFUSED" && d.GetReason() != "UNAVAILABLE" {
		t.Errorf("%v", d)
	}
}

// dataFolder is the data folder of a suite with an embedded Postgres.
func dataFolder(t *testing.T, s *suite.Suite) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.Postgres.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	var data string
	if err := conn.QueryRow(t.Context(), "SHOW data_directory").Scan(&data); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(data, "/postgres/data")
}
