// Package testkit gives tests real servers: a fresh Postgres database and a
// private Redis for each test that asks.
//
// Promise: a test sees nobody else's data and may run in parallel; a database
// is cloned from a template that has the migrations applied, so the second
// costs tens of milliseconds. Nothing outlives the test process: servers end
// with it even when it is killed, and its folders are removed by [Main] or,
// after a kill, by the next run. A machine without the servers fails the test
// with what to install; nothing is skipped.
//
// Limits: the Postgres server of [Postgres] is shared by the tests of one
// package; a test that breaks its server takes [OwnPostgres]. The one shared
// server is the package's only global state.
//
// Testkit belongs to the module of pkg. As a module of its own, which pkg's
// tests would require and which requires pkg, it gave a consumer of pkg the
// same go.mod (measured with `go mod tidy` and `go mod graph`: pgregory.net/rapid
// and go.uber.org/goleak appear in go.sum alone, for pkg's tests, either way) and
// a cycle of modules. Hence testkit imports nothing that pkg and its tests don't
// need anyway: the SMTP server for tests is services/internal/mailserver.
package testkit

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/purserhq/purser/pkg/testkit/faultproxy"
	"github.com/purserhq/purser/pkg/testkit/pgserver"
	"github.com/purserhq/purser/pkg/testkit/rediscluster"
	"github.com/purserhq/purser/pkg/testkit/redisserver"
)

const pollEvery = 2 * time.Millisecond

// shared is the process's Postgres server. It can't belong to a test, because
// it outlives each.
var shared struct {
	sync.Mutex
	inMain    bool
	server    *pgserver.Server
	err       error
	templates templates
}

// Main runs a package's tests and stops the shared server. Each package that
// uses [Postgres] has
//
//	func TestMain(m *testing.M) { testkit.Main(m) }
func Main(m *testing.M) { os.Exit(run(m)) }

// LeakFree is Main for packages whose tests must leave no goroutine behind.
func LeakFree(m *testing.M, known ...goleak.Option) {
	code := run(m)
	if code == 0 {
		if err := goleak.Find(known...); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

func run(m *testing.M) int {
	shared.Lock()
	shared.inMain = true
	shared.Unlock()
	code := m.Run()
	shared.Lock()
	defer shared.Unlock()
	if shared.server != nil {
		if err := shared.server.Stop(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

func sharedServer(t testing.TB) *pgserver.Server {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if !shared.inMain {
		t.Fatal("testkit.Postgres needs func TestMain(m *testing.M) { testkit.Main(m) } in this package, or the " +
			"server's folder is left behind")
	}
	if shared.server == nil && shared.err == nil {
		shared.server, shared.err = pgserver.Start(context.Background(), pgserver.Options{})
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.server
}

// OwnPostgres starts a server for this test alone, to be killed, paused and
// restarted. It is stopped when the test ends.
func OwnPostgres(t testing.TB) *pgserver.Server {
	t.Helper()
	s, err := pgserver.Start(t.Context(), pgserver.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Redis starts an empty server for this test alone, which takes some tens of
// milliseconds. It is stopped when the test ends.
func Redis(t testing.TB) *redisserver.Server {
	t.Helper()
	s, err := redisserver.Start(t.Context(), redisserver.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// RedisCluster starts three nodes for this test alone, which takes a second or
// two. They are stopped when the test ends.
func RedisCluster(t testing.TB) *rediscluster.Cluster {
	t.Helper()
	c, err := rediscluster.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return c
}

// Proxy starts a proxy before target, host:port or a URL, that can break
// connections. It is closed when the test ends.
func Proxy(t testing.TB, target string) *faultproxy.Proxy {
	t.Helper()
	if u, err := url.Parse(target); err == nil && u.Host != "" {
		target = u.Host
	}
	p, err := faultproxy.Start(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// Eventually fails the test unless cond becomes true within timeout. It asks
// every 2 ms, from the test's own goroutine.
func Eventually(t testing.TB, timeout time.Duration, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	end := time.NewTimer(timeout)
	defer end.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-end.C:
			if !cond() {
				t.Fatalf("the condition was not met within %s", timeout)
			}
			return
		}
	}
}
