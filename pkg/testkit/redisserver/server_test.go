package redisserver_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/purserhq/purser/pkg/testkit/redisserver"
)

func start(t *testing.T, o redisserver.Options) *redisserver.Server {
	t.Helper()
	s, err := redisserver.Start(t.Context(), o)
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

func client(t *testing.T, s *redisserver.Server) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	o.MaxRetries = -1
	c := redis.NewClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestADurableServerKeepsItsDataAndPortThroughAKill(t *testing.T) {
	s := start(t, redisserver.Options{Dir: filepath.Join(t.TempDir(), "redis"), Durable: true,
		Settings: map[string]string{"appendfsync": "always"}})
	c, url := client(t, s), s.URL()
	if err := c.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	if err := c.Get(t.Context(), "k").Err(); err == nil {
		t.Fatal("a killed server answered")
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := client(t, s).Get(t.Context(), "k").Result(); got != "v" || err != nil {
		t.Fatalf("got %q, %v", got, err)
	}
	if s.URL() != url {
		t.Fatal("the URL changed")
	}
}

func TestAPausedServerDoesNotAnswerUntilResumed(t *testing.T) {
	s := start(t, redisserver.Options{})
	c := client(t, s)
	s.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	o := *c.Options()
	o.ContextTimeoutEnabled = true
	hung := redis.NewClient(&o)
	defer hung.Close()
	if err := hung.Ping(ctx).Err(); err == nil {
		t.Fatal("a paused server answered")
	}
	s.Resume()
	if err := c.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
}

func TestThePasswordIsAskedForAndInNoArgumentList(t *testing.T) {
	s := start(t, redisserver.Options{})
	o, _ := redis.ParseURL(s.URL())
	o.Password = ""
	c := redis.NewClient(o)
	defer c.Close()
	if err := c.Ping(t.Context()).Err(); err == nil || !strings.Contains(err.Error(), "NOAUTH") {
		t.Fatalf("without a password: %v", err)
	}
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range lines {
		if b, _ := os.ReadFile(name); strings.Contains(string(b), s.Password()) {
			t.Fatalf("%s holds the password", name)
		}
	}
	policy, err := client(t, s).ConfigGet(t.Context(), "maxmemory-policy").Result()
	if err != nil || policy["maxmemory-policy"] != "noeviction" {
		t.Fatalf("%v, %v", policy, err)
	}
}

func TestABusyPortIsNamed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	_, err = redisserver.Start(t.Context(), redisserver.Options{Port: port})
	if !errors.Is(err, redisserver.ErrPortBusy) || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Fatal(err)
	}
}

func TestASecondOwnerOfAFolderIsRefused(t *testing.T) {
	dir := t.TempDir()
	start(t, redisserver.Options{Dir: dir})
	_, err := redisserver.Start(t.Context(), redisserver.Options{Dir: dir})
	if !errors.Is(err, redisserver.ErrInUse) {
		t.Fatal(err)
	}
}

func TestAMissingBinarySaysWhatToInstall(t *testing.T) {
	t.Setenv(redisserver.BinEnv, "/nowhere/redis-server")
	if _, err := redisserver.Start(t.Context(), redisserver.Options{}); !errors.Is(err, redisserver.ErrNotInstalled) {
		t.Fatal(err)
	}
	t.Setenv(redisserver.BinEnv, "")
	t.Setenv("PATH", "/nowhere")
	_, err := redisserver.Start(t.Context(), redisserver.Options{})
	if err == nil {
		t.Skip("redis-server is installed outside PATH here")
	}
	if !errors.Is(err, redisserver.ErrNotInstalled) || !strings.Contains(err.Error(), "apt-get install redis-server") {
		t.Fatal(err)
	}
}

func TestStopRemovesATemporaryFolder(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	s := start(t, redisserver.Options{})
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(tmp + "/*"); len(left) > 0 {
		t.Fatalf("left behind: %v", left)
	}
}
