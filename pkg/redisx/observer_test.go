package redisx_test

import (
	"testing"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/pkg/testkit"
)

func TestAnOutageIsSeenInTheMetrics(t *testing.T) {
	reader := metric.NewManualReader()
	before := otel.GetMeterProvider()
	otel.SetMeterProvider(metric.NewMeterProvider(metric.WithReader(reader)))
	defer otel.SetMeterProvider(before)
	s := testkit.Redis(t)
	c := open(t, redisx.Options{URL: s.URL()})
	if err := c.Set(t.Context(), "k", 1, 0).Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Pipelined(t.Context(), func(
		p redis.Pipeliner) error {
		return p.Incr(t.Context(), "k").Err()
	}); err != nil {
		t.Fatal(err)
	}
	now := values(t, reader)
	if now["redis_command_seconds"] < 2 || now["redis_connections"] < 1 || now["redis_breaker_open"] != 0 ||
		now["redis_pool_timeouts_total"] != 0 {
		t.Errorf("in health: %v", now)
	}
	s.Kill()
	for range 10 {
		_ = c.Get(t.Context(), "k").Err()
	}
	if now := values(t, reader); now["redis_breaker_open"] != 1 {
		t.Errorf("in an outage: %v", now)
	}
}

// values are the counts or sums by name.
func values(t *testing.T, reader *metric.ManualReader) map[string]int64 {
	t.Helper()
	var seen metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &seen); err != nil {
		t.Fatal(err)
	}
	values := map[string]int64{}
	for _, scope := range seen.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					values[m.Name] += int64(p.Count)
				}
			case metricdata.Gauge[int64]:
				for _, p := range data.DataPoints {
					values[m.Name] += p.Value
				}
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					values[m.Name] += p.Value
				}
			}
		}
	}
	return values
}
