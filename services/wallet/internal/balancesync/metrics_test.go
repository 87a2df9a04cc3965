package balancesync_test

import (
	"fmt"
	"slices"
	"testing"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

func TestARoundCountsWhatBecameOfTheWallets(t *testing.T) {
	before := otel.GetMeterProvider()
	reader := metric.NewManualReader()
	otel.SetMeterProvider(metric.NewMeterProvider(metric.WithReader(reader)))
	t.Cleanup(func() { otel.SetMeterProvider(before) })
	if err := newFakeQueue(map[uint64]int{1: 5, 999: 2}).run(t.Context()); err != nil {
		t.Fatal(err)
	}
	var data metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &data); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range data.ScopeMetrics {
		for _, m := range s.Metrics {
			switch d := m.Data.(type) {
			case metricdata.Sum[int64]:
				got = append(got, fmt.Sprint(m.Name, " ", d.DataPoints[0].Value))
			case metricdata.Gauge[float64]:
				got = append(got, fmt.Sprint(m.Name, " ", d.DataPoints[0].Value))
			}
		}
	}
	slices.Sort(got)
	want := []string{"wallets_oldest_sync_seconds 0", "wallets_sync_failed_total 2", "wallets_synced_total 5"}
	if !slices.Equal(got, want) {
		t.Errorf("measured %v, want %v", got, want)
	}
}
