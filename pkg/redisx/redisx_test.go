package redisx_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/pkg/testkit"
)

func TestMain(m *testing.M) { testkit.LeakFree(m) }

func open(t testing.TB, o redisx.Options) redis.UniversalClient {
	t.Helper()
	c, err := redisx.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func get(t *testing.T, c redis.UniversalClient) (time.Duration, error) {
	t.Helper()
	begin := time.Now()
	ctx, cancel := redisx.Bounded(t.Context())
	defer cancel()
	err := c.Get(ctx, "k").Err()
	if errors.Is(err, redis.Nil) {
		err = nil
	}
	return time.Since(begin), redisx.Unavailable(err)
}

func TestAnOutageCostsLittleAndEndsByItself(t *testing.T) {
	for name, fault := range map[string]struct{ begin, end func(s server) error }{
		"killed": {func(s server) error { s.Kill(); return nil },
			func(s server) error { return s.Restart(t.Context()) }},
		"paused": {func(s server) error { s.Pause(); return nil }, func(s server) error { s.Resume(); return nil }},
	} {
		t.Run(name, func(t *testing.T) {
			s := testkit.Redis(t)
			var log testkit.LogBuffer
			c := open(t, redisx.Options{URL: s.URL(), Log: slog.New(slog.NewTextHandler(&log, nil))})
			testkit.Eventually(t, time.Minute, func() bool { _, err := get(t, c); return err == nil })
			if err := fault.begin(s); err != nil {
				t.Fatal(err)
			}
			// Other load on the machine only adds, so that the least of each
			// kind is the library's; the exact times are the clock tests'.
			silent, open := time.Hour, time.Hour
			for i := range 10 {
				took, err := get(t, c)
				if !errors.Is(err, redisx.ErrUnavailable) {
					t.Fatalf("call %d: %v", i, err)
				}
				if i < 5 {
					silent = min(silent, took)
				} else {
					open = min(open, took)
				}
			}
			if silent > 150*time.Millisecond {
				t.Errorf("a call took %s at least", silent)
			}
			if open > 20*time.Millisecond {
				t.Errorf("a call took %s at least with the breaker open", open)
			}
			if err := fault.end(s); err != nil {
				t.Fatal(err)
			}
			testkit.Eventually(t, time.Minute, func() bool { _, err := get(t, c); return err == nil })
			if n := strings.Count(log.String(), "\n"); n != 2 {
				t.Errorf("%d lines for one outage:\n%s", n, log.String())
			}
		})
	}
}

type server interface {
	Kill()
	Restart(context.Context) error
	Pause()
	Resume()
}

func TestAMissAnAnswerAndACancelledCallerDoNotOpenTheBreaker(t *testing.T) {
	s := testkit.Redis(t)
	c := open(t, redisx.Options{URL: s.URL()})
	if err := c.Set(t.Context(), "text", "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 {
		if err := c.Get(t.Context(), "missing").Err(); !errors.Is(err, redis.Nil) {
			t.Fatal(err)
		}
		if err := c.Incr(t.Context(), "text").Err(); err == nil ||
			errors.Is(redisx.Unavailable(err), redisx.ErrUnavailable) {
			t.Fatal(err)
		}
		if err := c.Get(cancelled, "text").Err(); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	if _, err := get(t, c); err != nil {
		t.Fatal(err)
	}
}

func TestNoPasswordAndNoStatementGetsOut(t *testing.T) {
	const secret = "hunter2secret"
	s := testkit.Redis(t)
	spans := tracetest.NewInMemoryExporter()
	provider := trace.NewTracerProvider(trace.WithSyncer(spans))
	c := open(t, redisx.Options{URL: s.URL(), TracerProvider: provider})
	if err := c.Set(t.Context(), "outside any trace", secret, 0).Err(); err != nil || len(spans.GetSpans()) != 0 {
		t.Fatal(err, spans.GetSpans())
	}
	ctx, root := provider.Tracer("test").Start(t.Context(), "root")
	if err := c.Set(ctx, "k", secret, 0).Err(); err != nil {
		t.Fatal(err)
	}
	_, _ = c.Pipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, "k"); return p.Incr(ctx, "k").Err() })
	root.End()
	if n := len(spans.GetSpans()); n < 3 {
		t.Fatalf("%d spans", n)
	}
	out := fmt.Sprintf("%+v", spans.GetSpans())
	for _, url := range []string{
		"redis://:" + secret + "@127.0.0.1:notaport/0",
		"redis://:" + secret + "%zz@127.0.0.1/0",
		"redis://:x@127.0.0.1/" + secret,
		"redis://:x@127.0.0.1/0?unknown=" + secret,
		"redis://:x@127.0.0.1/0?cluster=true&unknown=" + secret,
		secret,
	} {
		_, err := redisx.New(redisx.Options{URL: url})
		if err == nil {
			t.Fatalf("%s was taken", url)
		}
		out += err.Error()
	}
	wrong := open(t, redisx.Options{URL: fmt.Sprintf("redis://:%s@127.0.0.1:%d/0", secret, s.Port())})
	_, err := get(t, wrong)
	if err == nil {
		t.Fatal("a wrong password was taken")
	}
	out += err.Error()
	if strings.Contains(out, secret) || strings.Contains(out, s.Password()) {
		t.Fatal("leaked")
	}
}

func TestAClusterIsToldByItsURL(t *testing.T) {
	for url, cluster := range map[string]bool{
		"redis://127.0.0.1:7000/0":                     false,
		"redis://127.0.0.1:7000?addr=127.0.0.1:7001":   true,
		"redis://cache.example:6379?cluster=true":      true,
		"rediss://u:p@127.0.0.1:7000?addr=127.0.0.1:1": true,
	} {
		c := open(t, redisx.Options{URL: url})
		if _, got := c.(*redis.ClusterClient); got != cluster {
			t.Errorf("%s: %T", url, c)
		}
	}
}

// BenchmarkOpenBreaker is what a call costs while Redis is away.
func BenchmarkOpenBreaker(b *testing.B) {
	s := testkit.Redis(b)
	c := open(b, redisx.Options{URL: s.URL()})
	s.Kill()
	for c.Get(b.Context(), "k").Err() != nil && !strings.Contains(c.Get(b.Context(), "k").Err().Error(), "breaker") {
	}
	for b.Loop() {
		_ = c.Get(b.Context(), "k").Err()
	}
	b.ReportMetric(1000, "goal-ns")
}

func TestAnIDIsReadFromItsKeyOnly(t *testing.T) {
	for _, id := range []string{"", "k", "%", "}", "{", "%7D", "a}b%25{c}", "ü/%"} {
		if got, ok := redisx.ID("p:", redisx.Key("p:", id)); got != id || !ok {
			t.Errorf("%q: %q, %t", id, got, ok)
		}
	}
	for _, key := range []string{"", "p:", "p:{}", "p:{k}:lease", "q:{k}", "p:{k", "p:k}", "p:{a}b}", "p:{%zz}"} {
		if id, ok := redisx.ID("p:", key); ok {
			t.Errorf("%q: %q", key, id)
		}
	}
}
