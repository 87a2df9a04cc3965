package redisx

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

const scope = "github.com/purserhq/purser/pkg/redisx"

// observer times the commands of one node, and makes a span of each that
// belongs to a trace. Statements stay out of both.
type observer struct {
	tracer  trace.Tracer
	system  trace.SpanStartEventOption
	labels  []metric.RecordOption
	seconds metric.Float64Histogram
}

var _ redis.Hook = (*observer)(nil)

func newObserver(client *redis.Client, b *breaker, provider trace.TracerProvider) *observer {
	if provider == nil {
		provider = otel.GetTracerProvider()
	}
	address := attribute.String("server.address", client.Options().Addr)
	labels := metric.WithAttributeSet(attribute.NewSet(address))
	meter := otel.Meter(scope)
	o := &observer{
		tracer: provider.Tracer(scope),
		system: trace.WithAttributes(attribute.String("db.system.name", "redis"), address),
		labels: []metric.RecordOption{labels},
	}
	// An instrument that can't be made is a no-op one.
	o.seconds, _ = meter.Float64Histogram("redis_command_seconds", metric.WithUnit("s"),
		metric.WithDescription("Time of a command or a pipeline, the wait for a connection included."))
	connections, _ := meter.Int64ObservableGauge("redis_connections", metric.WithDescription("Connections of the pool, by state."))
	timeouts, _ := meter.Int64ObservableCounter("redis_pool_timeouts_total", metric.WithDescription("Commands that got no connection in time."))
	open, _ := meter.Int64ObservableGauge("redis_breaker_open", metric.WithDescription("1 while the circuit breaker keeps commands from the node."))
	idle := metric.WithAttributes(address, attribute.String("state", "idle"))
	used := metric.WithAttributes(address, attribute.String("state", "used"))
	_, _ = meter.RegisterCallback(func(_ context.Context, seen metric.Observer) error {
		pool := client.PoolStats()
		seen.ObserveInt64(connections, int64(pool.IdleConns), idle)
		seen.ObserveInt64(connections, int64(pool.TotalConns)-int64(pool.IdleConns), used)
		seen.ObserveInt64(timeouts, int64(pool.Timeouts), labels)
		seen.ObserveInt64(open, b.refusing(), labels)
		return nil
	}, connections, timeouts, open)
	return o
}

func (o *observer) DialHook(next redis.DialHook) redis.DialHook { return next }

func (o *observer) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		begin := time.Now()
		var span trace.Span
		if trace.SpanFromContext(ctx).IsRecording() {
			ctx, span = o.tracer.Start(ctx, cmd.FullName(), trace.WithSpanKind(trace.SpanKindClient), o.system)
		}
		err := next(ctx, cmd)
		o.done(ctx, span, begin, err)
		return err
	}
}

func (o *observer) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		begin := time.Now()
		var span trace.Span
		if trace.SpanFromContext(ctx).IsRecording() {
			ctx, span = o.tracer.Start(ctx, "pipeline", trace.WithSpanKind(trace.SpanKindClient), o.system,
				trace.WithAttributes(attribute.Int("db.operation.batch.size", len(cmds))))
		}
		err := next(ctx, cmds)
		o.done(ctx, span, begin, err)
		return err
	}
}

func (o *observer) done(ctx context.Context, span trace.Span, begin time.Time, err error) {
	o.seconds.Record(ctx, time.Since(begin).Seconds(), o.labels...)
	if span == nil {
		return
	}
	if err != nil && !errors.Is(err, redis.Nil) {
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
}
