// Package servicetest runs a service in a test the way it is deployed: with its
// own configuration, on real servers, called over gRPC.
//
// It offers a stand-in for the token issuer ([Issuer]), the start of a service
// or of two replicas of it ([Start], [StartReplicas]), and checks of errors
// ([WantError], [WantViolation]).
//
// Everything that it starts is stopped when the test ends; a service whose Run
// returns an error fails its test.
package servicetest

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc"

	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/redisserver"
)

// NoRedis is the URL of a Redis that refuses every connection, for tests that
// need none.
const NoRedis = "redis://127.0.0.1:1/0"

// App is a service's app.App.
type App interface {
	Run(ctx context.Context) error
	// Addr is where gRPC listens, host:port.
	Addr() string
}

// Start loads a configuration from settings ("NAME=value"), runs the service
// until the test ends, and returns a connection to it. The settings must
// include PURSER_GRPC_PLAINTEXT=true. load and newApp are the Load and New of
// the service's app package.
func Start[C any, A App](t testing.TB, load func(settings []string) (C, error),
	newApp func(context.Context, C, *slog.Logger) (A, error), logs io.Writer, settings ...string) *grpc.ClientConn {
	t.Helper()
	cfg, err := load(settings)
	if err != nil {
		t.Fatal(err)
	}
	a, err := newApp(t.Context(), cfg, slog.New(slog.NewTextHandler(logs, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	conn, err := grpcclient.Dial(grpcclient.Config{Addr: a.Addr(), Plaintext: true, Timeout: time.Minute}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// Replicas are two instances of a service on one Redis. S is the test's own
// type for a running service; both are to use the same database.
type Replicas[S any] struct {
	A, B S
	// Redis keeps across [redisserver.Server.Kill] and Restart what it has
	// acknowledged.
	Redis *redisserver.Server
	Logs  *testkit.LogBuffer // of both
}

// StartReplicas calls start once for each replica.
func StartReplicas[S any](t testing.TB, start func(redisURL string, logs io.Writer) S) Replicas[S] {
	t.Helper()
	redis, err := redisserver.Start(t.Context(),
		redisserver.Options{Dir: t.TempDir(), Durable: true, Settings: map[string]string{"appendfsync": "always"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := redis.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	r := Replicas[S]{Redis: redis, Logs: &testkit.LogBuffer{}}
	r.A, r.B = start(redis.URL(), r.Logs), start(redis.URL(), r.Logs)
	return r
}

// WantFresh fails the test unless get returns want at its first call. If a
// cache of the replicas has ever given up on a Redis that was too slow, which
// happens on a busy machine, get has 10 seconds until the outbox has
// invalidated what it reads. what begins the failure's text.
func (r Replicas[S]) WantFresh(t testing.TB, what, want string, get func() string) {
	t.Helper()
	got := get()
	if got == want {
		return
	}
	if !r.Logs.Contains("redis doesn't answer") {
		t.Errorf("%s %q, want %q", what, got, want)
		return
	}
	testkit.Eventually(t, time.Minute, func() bool { return get() == want })
}

// ReadUntilCached calls read until Redis holds as many entries as wanted of each cached entity, such as "timeline": a
// read may go round a Redis that is slow at the time. If something was changed before, wait for the outbox first: it
// would end the entries. A page that was read while Redis did not tell the generation is under a name that nobody asks
// for again, so it reads some times more, until none is added.
func ReadUntilCached(t testing.TB, r *redisserver.Server, read func(), want map[string]int) {
	t.Helper()
	o, err := redis.ParseURL(r.URL())
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(o)
	defer func() { _ = client.Close() }()
	same, before := 0, 0
	testkit.Eventually(t, time.Minute, func() bool {
		read()
		all := 0
		for entity, n := range want {
			keys, err := client.Keys(t.Context(), "purser:*:"+entity+":*}").Result()
			if err != nil || len(keys) < n {
				return false
			}
			all += len(keys)
		}
		if all != before {
			same, before = 0, all
		}
		same++
		return same > 5
	})
}

// WaitForOutbox waits until no cache invalidation of db waits for Redis. It
// fails the test after a minute.
func WaitForOutbox(t testing.TB, db *testkit.DB) {
	t.Helper()
	testkit.Eventually(t, time.Minute, func() bool {
		var left int
		err := db.SQL().QueryRowContext(t.Context(), "SELECT count(*) FROM cache_invalidations").Scan(&left)
		return err == nil && left == 0
	})
}
