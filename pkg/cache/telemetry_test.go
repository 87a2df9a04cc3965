package cache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/deadline"
	"github.com/purserhq/purser/pkg/testkit"
)

// counted lists what was recorded of an entity, or of none, as name{labels}.
func counted(t *testing.T, reader metric.Reader, entity string) map[string]uint64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	found := map[string]uint64{}
	note := func(name string, labels attribute.Set, n uint64) {
		if of, ok := labels.Value("entity"); !ok || of.AsString() == entity {
			found[name+"{"+labels.Encoded(attribute.DefaultEncoder())+"}"] += n
		}
	}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					if strings.HasPrefix(m.Name, "cache_") {
						note(m.Name, p.Attributes, uint64(p.Value))
					}
				}
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					if strings.HasPrefix(m.Name, "cache_") {
						note(m.Name, p.Attributes, p.Count)
					}
				}
			}
		}
	}
	return found
}

func TestWhatAnOperatorNeedsIsCounted(t *testing.T) {
	reader := metric.NewManualReader()
	spans := tracetest.NewSpanRecorder()
	meters, tracers := otel.GetMeterProvider(), otel.GetTracerProvider()
	otel.SetMeterProvider(metric.NewMeterProvider(metric.WithReader(reader)))
	otel.SetTracerProvider(trace.NewTracerProvider(trace.WithSpanProcessor(spans)))
	defer func() {
		otel.SetMeterProvider(meters)
		otel.SetTracerProvider(tracers)
	}()
	s, db := testkit.Redis(t), database(t)
	c := New[string](client(t, s), Namespace{Service: "test", Entity: "counted"}, Options{Budget: patience})
	get(t, c, "k", value("v"), "v")
	settle(t, c)
	get(t, c, "k", never[string](t), "v")
	_, _ = c.Get(t.Context(), "failing", func(context.Context) (string, error) { return "", errors.New("boom") })
	if err := client(t, s).Set(t.Context(), c.key("broken"), "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	get(t, c, "broken", value("v"), "v")
	var once sync.Once
	get(t, c, "superseded", func(ctx context.Context) (_ string, err error) {
		once.Do(func() { err = c.Invalidate(ctx, "superseded") })
		return "v", err
	}, "v")
	testkit.Eventually(t, time.Minute, func() bool {
		return client(t, s).Exists(t.Context(),
			c.key("superseded")).Val() == 1
	})
	change(t, db, func(tx *gorm.DB) error { return c.RecordInvalidation(tx, "k") })
	db.Gorm(t.Context()).Exec("UPDATE cache_invalidations SET noted_at = noted_at - interval '1 minute'")
	if err := NewOutbox(db.DB, c.redis, nil).sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	settle(t, c)
	s.Kill()
	get(t, c, "k", value("v"), "v")
	_ = c.Invalidate(t.Context(), "k")
	want := map[string]uint64{
		"cache_hits_total{entity=counted}":                          1,
		"cache_misses_total{entity=counted}":                        4,
		"cache_degraded_total{entity=counted}":                      1,
		"cache_undecodable_total{entity=counted}":                   1,
		"cache_invalidation_failures_total{entity=counted}":         1,
		"cache_superseded_total{entity=counted}":                    1,
		"cache_load_duration_seconds{entity=counted,outcome=error}": 1,
		"cache_load_duration_seconds{entity=counted,outcome=ok}":    5,
		"cache_outbox_swept_total{}":                                1,
	}
	var got map[string]uint64
	t.Cleanup(func() {
		for _, name := range slices.Sorted(maps.Keys(got)) {
			if got[name] != want[name] {
				t.Logf("%s %d, want %d", name, got[name], want[name])
			}
		}
	})
	testkit.Eventually(t, time.Minute, func() bool { // a load is counted after its value was given out
		got = counted(t, reader, "counted")
		loads := 0
		for _, span := range spans.Ended() {
			if span.Name() == "cache load" {
				loads++
			}
		}
		return maps.Equal(got, want) && loads == 6
	})
}

func TestAnOutageIsLoggedOnceWhenItBeginsAndOnceWhenItIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said testkit.LogBuffer
		o := outage{log: slog.New(slog.NewTextHandler(&said, nil)), entity: "thing", since: time.Now()}
		for _, step := range []struct {
			wait   time.Duration
			failed bool
			lines  int
		}{
			{0, false, 0}, {0, true, 1}, {0, true, 1}, {recoveryTime / 2, false, 1}, {0, true, 1},
			{recoveryTime / 2, false, 1}, {recoveryTime, false, 2}, {0, false, 2}, {0, true, 3},
			{recoveryTime, false, 4},
		} {
			_ = deadline.Pause(t.Context(), step.wait)
			o.observe(t.Context(), step.failed)
			if n := strings.Count(said.String(), "\n"); n != step.lines {
				t.Fatal(fmt.Sprintf("%+v: %d lines\n", step, n), said.String())
			}
		}
	})
}
