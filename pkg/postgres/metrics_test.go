package postgres_test

import (
	"path"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/testkit"
)

// What waits for a connection is seen while it waits and afterwards.
func TestThePoolTellsOfWaits(t *testing.T) {
	own := testkit.Postgres(t, nil)
	if err := own.Close(); err != nil { // its pool has the same name
		t.Fatal(err)
	}
	database := path.Base(strings.Split(own.URL, "?")[0])
	reader := sdkmetric.NewManualReader()
	before := otel.GetMeterProvider()
	otel.SetMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)))
	t.Cleanup(func() { otel.SetMeterProvider(before) })
	values := func() map[string]float64 {
		var all metricdata.ResourceMetrics
		if err := reader.Collect(t.Context(), &all); err != nil {
			t.Fatal(err)
		}
		found := map[string]float64{}
		set := func(name string, attributes attribute.Set, value float64) {
			if of, _ := attributes.Value("db.namespace"); of.AsString() == database {
				state, _ := attributes.Value("state")
				found[name+state.AsString()] = value
			}
		}
		for _, scope := range all.ScopeMetrics {
			for _, m := range scope.Metrics {
				switch data := m.Data.(type) {
				case metricdata.Gauge[int64]:
					for _, p := range data.DataPoints {
						set(m.Name, p.Attributes, float64(p.Value))
					}
				case metricdata.Sum[int64]:
					for _, p := range data.DataPoints {
						set(m.Name, p.Attributes, float64(p.Value))
					}
				case metricdata.Sum[float64]:
					for _, p := range data.DataPoints {
						set(m.Name, p.Attributes, p.Value)
					}
				}
			}
		}
		return found
	}
	db, err := postgres.Open(t.Context(), postgres.Options{URL: own.URL, MaxOpenConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	held, err := db.SQL().Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := values(); got["postgres_connectionsused"] != 1 || got["postgres_connections_max"] != 1 ||
		got["postgres_pool_waits_total"] != 0 {
		t.Errorf("with one connection in use: %v", got)
	}
	done := make(chan error, 1)
	go func() { done <- db.Ping(t.Context()) }()
	testkit.Eventually(t, 10*time.Second, func() bool { return values()["postgres_pool_waits_total"] == 1 })
	_ = held.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := values(); got["postgres_pool_wait_seconds_total"] <= 0 || got["postgres_connectionsidle"] != 1 {
		t.Errorf("after the wait: %v", got)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if got := values(); len(got) != 0 {
		t.Errorf("a closed pool has %v", got)
	}
}
