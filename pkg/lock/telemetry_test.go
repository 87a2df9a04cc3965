package lock

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/purserhq/purser/pkg/testkit"
)

func TestALossAndAWaitAreTold(t *testing.T) {
	reader, spans := metric.NewManualReader(), tracetest.NewInMemoryExporter()
	meters, tracers := otel.GetMeterProvider(), otel.GetTracerProvider()
	otel.SetMeterProvider(metric.NewMeterProvider(metric.WithReader(reader)))
	otel.SetTracerProvider(trace.NewTracerProvider(trace.WithSyncer(spans)))
	defer func() { otel.SetMeterProvider(meters); otel.SetTracerProvider(tracers) }()
	s := testkit.Redis(t)
	var log testkit.LogBuffer
	l := locker(t, s, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})

	g := tryFor(t, l, "x", 300*time.Millisecond)
	lost := loss(t, g)
	if err := l.client.Del(t.Context(), l.key("x")).Err(); err != nil {
		t.Fatal(err)
	}
	lost()
	_ = g.Release()
	g = try(t, l, "x")
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := l.Do(t.Context(), "x", time.Minute, func(context.Context, *Guard) error { return nil }); err != nil {
			t.Error(err)
		}
	}()
	testkit.Eventually(t, time.Minute, func() bool { return waits(l, "x") })
	if err := g.Release(); err != nil {
		t.Fatal(err)
	}
	testkit.Receive(t, done, time.Minute)

	testkit.Eventually(t, time.Minute, func() bool {
		return strings.Contains(log.String(), `level=WARN msg="lock lost" lock=x fence=`)
	})
	if n := strings.Count(log.String(), "\n"); n != 1 {
		t.Errorf("%d lines:\n%s", n, log.String())
	}
	if got := spans.GetSpans(); len(got) != 1 || got[0].Name != "lock wait" {
		t.Errorf("spans %v", got)
	}
	var seen metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &seen); err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for _, scope := range seen.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				counts[m.Name] += int(data.DataPoints[0].Value)
			case metricdata.Histogram[float64]:
				counts[m.Name] += int(data.DataPoints[0].Count)
			}
		}
	}
	if counts["lock_lost_total"] != 1 || counts["lock_wait_seconds"] != 1 {
		t.Errorf("%v", counts)
	}
}
