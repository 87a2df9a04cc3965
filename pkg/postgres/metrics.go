package postgres

import (
	"context"
	"database/sql"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// observe exports the state of a pool, which has the name of its database, until end is
// called.
func observe(pool *sql.DB, database string) (end func()) {
	meter := otel.Meter("github.com/purserhq/purser/pkg/postgres")
	// Errors are ignored: an instrument that can't be made is a no-op.
	connections, _ := meter.Int64ObservableGauge("postgres_connections",
		metric.WithDescription("Connections of the pool, by state."))
	most, _ := meter.Int64ObservableGauge("postgres_connections_max",
		metric.WithDescription("Connections that the pool may have."))
	waits, _ := meter.Int64ObservableCounter("postgres_pool_waits_total",
		metric.WithDescription("Statements and transactions that waited for a connection."))
	waited, _ := meter.Float64ObservableCounter("postgres_pool_wait_seconds_total", metric.WithUnit("s"),
		metric.WithDescription("Time that they waited."))
	name := attribute.String("db.namespace", database)
	labels := metric.WithAttributes(name)
	idle := metric.WithAttributes(name, attribute.String("state", "idle"))
	used := metric.WithAttributes(name, attribute.String("state", "used"))
	callback, err := meter.RegisterCallback(func(_ context.Context, seen metric.Observer) error {
		s := pool.Stats()
		seen.ObserveInt64(connections, int64(s.Idle), idle)
		seen.ObserveInt64(connections, int64(s.InUse), used)
		seen.ObserveInt64(most, int64(s.MaxOpenConnections), labels)
		seen.ObserveInt64(waits, s.WaitCount, labels)
		seen.ObserveFloat64(waited, s.WaitDuration.Seconds(), labels)
		return nil
	}, connections, most, waits, waited)
	if err != nil {
		return func() {}
	}
	return func() { _ = callback.Unregister() }
}
