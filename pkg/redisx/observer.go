package redisx

import (
	"context"
	"errors"
	"runtime"
	"time"
	"weak"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

const scope = "github.com/purserhq/purser/pkg/redisx"

// observer measures the commands of one node and makes a span of each that belongs
// to a trace. Neither contains arguments.
type observer struct {
	tracer  trace.Tracer
	kind    trace.SpanStartOption
	system  trace.SpanStartOption
	labels  []metric.RecordOption
	seconds metric.Float64Histogram
}

func newObserver(client *redis.Client, name string, b *breaker, provider trace.TracerProvider) *observer {
	if provider == nil {
		provider = otel.GetTracerProvider()
	}
	address := attribute.String("server.address", name)
	labels := metric.WithAttributeSet(attribute.NewSet(address))
	meter := otel.Meter(scope)
	o := &observer{
		tracer: provider.Tracer(scope),
		kind:   trace.WithSpanKind(trace.SpanKindClient),
		system: trace.WithAttributes(attribute.String("db.system.name", "redis"), address),
		labels: []metric.RecordOption{labels},
	}
	// Errors are ignored: an instrument that can't be made is a no-op.
	o.seconds, _ = meter.Float64Histogram("redis_command_seconds", metric.WithUnit("s"),
		metric.WithDescription("Time of a command or a pipeline, the wait for a connection included."))
	connections, _ := meter.Int64ObservableGauge("redis_connections",
		metric.WithDescription("Connections of the pool, by state."))
	timeouts, _ := meter.Int64ObservableCounter("redis_pool_timeouts_total",
		metric.WithDescription("Commands that got no connection in time."))
	open, _ := meter.Int64ObservableGauge("redis_breaker_open",
		metric.WithDescription("1 while the circuit breaker refuses commands to the node."))
	idle := metric.WithAttributes(address, attribute.String("state", "idle"))
	used := metric.WithAttributes(address, attribute.String("state", "used"))
	// A weak pointer, or the metrics of a node that left its Cluster would remain.
	node := weak.Make(client)
	callback, err := meter.RegisterCallback(func(_ context.Context, seen metric.Observer) error {
		client := node.Value()
		if client == nil {
			return nil
		}
		pool := client.PoolStats()
		seen.ObserveInt64(connections, int64(pool.IdleConns), idle)
		seen.ObserveInt64(connections, int64(pool.TotalConns)-int64(pool.IdleConns), used)
		seen.ObserveInt64(timeouts, int64(pool.Timeouts), labels)
		seen.ObserveInt64(open, b.open(), labels)
		return nil
	}, connections, timeouts, open)
	if err == nil {
		runtime.AddCleanup(client, func(r metric.Registration) { _ = r.Unregister() }, callback)
	}
	return o
}

// observe measures a command or a pipeline.
func (o *observer) observe(ctx context.Context, cmds []redis.Cmder, next func(context.Context) error) error {
	begin := time.Now()
	var span trace.Span
	switch recorded := trace.SpanFromContext(ctx).IsRecording(); {
	case recorded && len(cmds) == 1:
		ctx, span = o.tracer.Start(ctx, cmds[0].FullName(), o.kind, o.system)
	case recorded:
		ctx, span = o.tracer.Start(ctx, "pipeline", o.kind, o.system,
			trace.WithAttributes(attribute.Int("db.operation.batch.size", len(cmds))))
	}
	err := next(ctx)
	o.seconds.Record(ctx, time.Since(begin).Seconds(), o.labels...)
	if span != nil {
		if err != nil && !errors.Is(err, redis.Nil) {
			span.SetStatus(codes.Error, err.Error())
		}
		span.End()
	}
	return err
}
