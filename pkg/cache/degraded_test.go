package cache

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/sdk/metric"

	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/pkg/testkit"
)

// Whatever keeps Redis from being used, operators see it, and callers get the value.
func TestEveryKindOfFailureOfRedisIsCountedAndLogged(t *testing.T) {
	reader := metric.NewManualReader()
	before := otel.GetMeterProvider()
	otel.SetMeterProvider(metric.NewMeterProvider(metric.WithReader(reader)))
	defer otel.SetMeterProvider(before)
	for kind, broken := range map[string]func(*testing.T) (url string){
		"no connection": func(t *testing.T) string {
			s := testkit.Redis(t)
			s.Kill()
			return s.URL()
		},
		"no answer in time": func(t *testing.T) string {
			s := testkit.Redis(t)
			s.Pause()
			t.Cleanup(s.Resume)
			return s.URL()
		},
		"a wrong password": func(t *testing.T) string {
			return fmt.Sprintf("redis://:wrong@127.0.0.1:%d/0", testkit.Redis(t).Port())
		},
		"a command that its ACL refuses": func(t *testing.T) string { return withUser(t, "~*", "+@all", "-get") },
		"a key that its ACL refuses":     func(t *testing.T) string { return withUser(t, "~other:*", "+@all") },
		"a key that is on another node": func(t *testing.T) string {
			c := testkit.RedisCluster(t)
			for _, node := range c.Nodes { // as if it were a single server
				err := client(t, node).Get(t.Context(), movedKey()).Err()
				if redis.HasErrorPrefix(err, "MOVED") {
					return node.URL()
				}
			}
			t.Fatal("every node has the key")
			return ""
		},
		"a database that does not exist": func(t *testing.T) string {
			return strings.TrimSuffix(testkit.Redis(t).URL(), "/0") + "/99"
		},
	} {
		t.Run(kind, func(t *testing.T) {
			entity := strings.ReplaceAll(kind, " ", "_")
			var log testkit.LogBuffer
			c := New[string](dial(t, broken(t), 0), Namespace{Service: "test", Entity: "degraded", Schema: 1},
				Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
			c.metrics = newMetrics(entity)
			t.Cleanup(c.Close)
			const calls = 7 // more than the breaker lets pass
			for range calls {
				get(t, c, "k", value("v"), "v")
				settle(t, c)
			}
			now := counted(t, reader, entity)
			if n := now["cache_degraded_total{entity="+entity+"}"]; n != calls {
				t.Errorf("%d of %d reads are counted: %v", n, calls, now)
			}
			if !strings.Contains(log.String(), "cache: redis doesn't answer") {
				t.Errorf("logged is %q", log.String())
			}
			if kind == "a command that its ACL refuses" {
				return // the others are allowed
			}
			if err := c.Invalidate(t.Context(), "k"); err == nil {
				t.Error("an invalidation succeeded")
			}
			if n := counted(t, reader, entity)["cache_invalidation_failures_total{entity="+entity+"}"]; n != 1 {
				t.Errorf("%d failed invalidations are counted", n)
			}
			once := NewSingleUse[string](c.redis, Namespace{Service: "test", Entity: "once"}, Options{})
			if err := once.Put(t.Context(), "k", "v", 1e9); err == nil {
				t.Error("a challenge was stored")
			}
			if _, _, err := once.Take(t.Context(), "k"); err == nil {
				t.Error("a challenge was looked for")
			}
		})
	}
	t.Run("control: a server that works", func(t *testing.T) {
		c := New[string](client(t, testkit.Redis(t)), ns, Options{Budget: patience})
		c.metrics = newMetrics("works")
		get(t, c, "k", value("v"), "v")
		if n := counted(t, reader, "works")["cache_degraded_total{entity=works}"]; n != 0 {
			t.Errorf("%d reads are counted", n)
		}
		if isUnanswered(redis.Nil) || !isUnanswered(errors.New("MOVED 1 127.0.0.1:1")) {
			t.Error("a miss is a failure, or MOVED none")
		}
	})
}

// withUser is the URL of a server for a user with these rules.
func withUser(t *testing.T, rules ...string) string {
	t.Helper()
	s := testkit.Redis(t)
	args := []any{"ACL", "SETUSER", "limited", "on", ">pw"}
	for _, rule := range rules {
		args = append(args, rule)
	}
	if err := client(t, s).Do(t.Context(), args...).Err(); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("redis://limited:pw@127.0.0.1:%d/0", s.Port())
}

// movedKey is the key that the test reads.
func movedKey() string {
	return redisx.Key(Namespace{Service: "test", Entity: "degraded", Schema: 1}.prefix(), "k")
}
