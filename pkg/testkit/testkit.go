// Package testkit gives tests real servers: a fresh Postgres database and a
// private Redis for each test that asks.
//
// Promise: each test has its own data and may run in parallel. A database is cloned
// from a template that has the migrations applied, so that from the second one on it
// takes tens of milliseconds. Nothing outlives the test process: servers end with it
// even when it is killed, and their folders are removed by [Main] or, after a kill,
// by the next run. On a machine without the servers tests fail with what to
// install; none is skipped.
//
// Limits: the Postgres server of [Postgres] is shared by the tests of one package; a
// test that kills or pauses its server uses [OwnPostgres]. The shared server is the
// package's only global state.
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
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/purserhq/purser/pkg/testkit/faultproxy"
	"github.com/purserhq/purser/pkg/testkit/pgserver"
	"github.com/purserhq/purser/pkg/testkit/rediscluster"
	"github.com/purserhq/purser/pkg/testkit/redissentinel"
	"github.com/purserhq/purser/pkg/testkit/redisserver"
)

const (
	pollInterval = 2 * time.Millisecond
	// stopTimeout bounds the stopping of a server and the dropping of a database.
	stopTimeout = time.Minute
)

// shared is the process's Postgres server. It outlives the tests that use it.
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

// LeakFree is Main for packages whose tests must leave no goroutine behind. known
// are goroutines to ignore.
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

// Parallel sets how many of the parallel tests run at once, unless -parallel says otherwise: more than processors for
// tests that mostly wait. Call it first in TestMain.
func Parallel(n int) {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		_ = f.Value.Set(strconv.Itoa(n)) // a number is always accepted
	}
}

func run(m *testing.M) int {
	shared.Lock()
	shared.inMain = true
	shared.Unlock()
	code := m.Run()
	shared.Lock()
	defer shared.Unlock()
	if shared.server != nil {
		if err := stop(shared.server); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

// stop stops a server within stopTimeout.
func stop(server interface{ Stop(context.Context) error }) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	return server.Stop(ctx)
}

// stopAfter stops a server when the test ends.
func stopAfter(t testing.TB, server interface{ Stop(context.Context) error }) {
	t.Cleanup(func() {
		if err := stop(server); err != nil {
			t.Error(err)
		}
	})
}

func sharedServer() (*pgserver.Server, error) {
	shared.Lock()
	defer shared.Unlock()
	if !shared.inMain {
		return nil, errors.New("testkit: Postgres needs func TestMain(m *testing.M) { testkit.Main(m) } in this " +
			"package, or the server's folder is left behind")
	}
	if shared.server == nil && shared.err == nil {
		shared.server, shared.err = pgserver.Start(context.Background(), pgserver.Options{InMemory: inMemory()})
	}
	return shared.server, shared.err
}

// OwnPostgres starts a server for this test alone, to be killed, paused and
// restarted. It is stopped when the test ends.
func OwnPostgres(t testing.TB) *pgserver.Server {
	t.Helper()
	s, err := pgserver.Start(t.Context(), pgserver.Options{InMemory: inMemory()})
	if err != nil {
		t.Fatal(err)
	}
	stopAfter(t, s)
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
	stopAfter(t, s)
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
	stopAfter(t, c)
	return c
}

// RedisSentinel starts a primary, two replicas and three Sentinels for this test
// alone, which takes some seconds. They are stopped when the test ends.
func RedisSentinel(t testing.TB) *redissentinel.Group {
	t.Helper()
	g, err := redissentinel.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stopAfter(t, g)
	return g
}

// Proxy starts a proxy to target, host:port or a URL, that can break connections. It
// is closed when the test ends.
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

// Receive returns the next value of ch, or the zero value when it is closed. It
// fails the test when neither happens within timeout.
func Receive[T any](t testing.TB, ch <-chan T, timeout time.Duration) T {
	t.Helper()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case value := <-ch:
		return value
	case <-timer.C:
		t.Fatalf("nothing was received within %s", timeout)
	}
	var zero T
	return zero
}

// Eventually fails the test unless cond becomes true within timeout. It calls cond
// every 2 ms, in the test's own goroutine.
func Eventually(t testing.TB, timeout time.Duration, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(pollInterval)
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
