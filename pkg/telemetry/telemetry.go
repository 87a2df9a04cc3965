// Package telemetry sets up the traces, metrics and logs of a process:
// OpenTelemetry configured by the standard OTEL_* variables, metrics in a
// Prometheus registry, and slog lines with the trace id.
//
// Traces are exported only if OTEL_TRACES_EXPORTER, OTEL_EXPORTER_OTLP_ENDPOINT or
// OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is set. It is the only package that sets the
// global providers.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/otel"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
	"go.opentelemetry.io/otel/trace"
)

// Telemetry holds the providers of a process.
type Telemetry struct {
	// Registry has the metrics, for the admin port to serve.
	Registry *prometheus.Registry
	traces   *sdktrace.TracerProvider
	metrics  *sdkmetric.MeterProvider
}

// Option of Start.
type Option func(*options)

type options struct {
	processors []sdktrace.SpanProcessor
	exporter   func(sdktrace.SpanExporter) sdktrace.SpanExporter
}

// WithSpanProcessor adds a processor that gets every recorded span, whether or not
// spans are exported. Shutdown ends it.
func WithSpanProcessor(p sdktrace.SpanProcessor) Option {
	return func(o *options) { o.processors = append(o.processors, p) }
}

// WithSpanExporter exports spans with what wrap returns for the exporter of the
// OTEL_* variables. wrap is not called if these configure none.
func WithSpanExporter(wrap func(sdktrace.SpanExporter) sdktrace.SpanExporter) Option {
	return func(o *options) { o.exporter = wrap }
}

// Start sets the global tracer and meter providers and the propagator (W3C trace
// context and baggage); service is the resource's service.name. Call Shutdown or
// Flush at the very end of the process.
func Start(ctx context.Context, service string, option ...Option) (*Telemetry, error) {
	o := options{exporter: func(e sdktrace.SpanExporter) sdktrace.SpanExporter { return e }}
	for _, set := range option {
		set(&o)
	}
	res, err := resource.New(ctx,
		resource.WithAttributes(semconv.ServiceName(service)),
		resource.WithFromEnv(), resource.WithTelemetrySDK())
	if err != nil {
		return nil, fmt.Errorf("telemetry resource: %w", err)
	}
	opts := []sdktrace.TracerProviderOption{sdktrace.WithResource(res)}
	for _, p := range o.processors {
		opts = append(opts, sdktrace.WithSpanProcessor(p))
	}
	if tracesConfigured() {
		exp, err := autoexport.NewSpanExporter(ctx)
		if err != nil {
			return nil, fmt.Errorf("trace exporter (OTEL_TRACES_EXPORTER=%q): %w", os.Getenv("OTEL_TRACES_EXPORTER"),
				err)
		}
		opts = append(opts, sdktrace.WithBatcher(o.exporter(exp)))
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	reader, err := otelprom.New(otelprom.WithRegisterer(registry))
	if err != nil {
		return nil, fmt.Errorf("metrics reader: %w", err)
	}
	t := &Telemetry{
		Registry: registry,
		traces:   sdktrace.NewTracerProvider(opts...),
		metrics: sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader), sdkmetric.WithResource(res),
			sdkmetric.WithView(secondsView())),
	}
	otel.SetTracerProvider(t.traces)
	otel.SetMeterProvider(t.metrics)
	otel.SetTextMapPropagator(propagation.NewCompositeTextMapPropagator(
		propagation.TraceContext{}, propagation.Baggage{}))
	return t, nil
}

// secondsView gives every histogram of seconds buckets from half a millisecond to an
// hour. OpenTelemetry's own begin at 5 and are meant for milliseconds.
func secondsView() sdkmetric.View {
	return sdkmetric.NewView(sdkmetric.Instrument{Kind: sdkmetric.InstrumentKindHistogram, Unit: "s"},
		sdkmetric.Stream{Aggregation: sdkmetric.AggregationExplicitBucketHistogram{Boundaries: []float64{
			0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600,
		}}})
}

// tracesConfigured reports whether the environment configures an exporter.
func tracesConfigured() bool {
	return os.Getenv("OTEL_TRACES_EXPORTER") != "" ||
		os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" ||
		os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != ""
}

// Shutdown exports what is still buffered and stops the providers.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	return errors.Join(t.traces.Shutdown(ctx), t.metrics.Shutdown(ctx))
}

// Flush is Shutdown for the end of a process: it takes at most five seconds and
// ignores errors.
func (t *Telemetry) Flush() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = t.Shutdown(ctx)
}

// NewLogger returns a logger that writes JSON lines to w, with the trace id of
// their context as trace_id, and with the attribute service unless it is empty.
func NewLogger(w io.Writer, level slog.Leveler, service string) *slog.Logger {
	log := slog.New(traceHandler{slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})})
	if service == "" {
		return log
	}
	return log.With("service", service)
}

// traceHandler adds the trace id of the context.
type traceHandler struct{ slog.Handler }

func (h traceHandler) Handle(ctx context.Context, r slog.Record) error {
	if sc := trace.SpanContextFromContext(ctx); sc.HasTraceID() {
		r.AddAttrs(slog.String("trace_id", sc.TraceID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

func (h traceHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return traceHandler{h.Handler.WithAttrs(attrs)}
}

func (h traceHandler) WithGroup(name string) slog.Handler {
	return traceHandler{h.Handler.WithGroup(name)}
}
