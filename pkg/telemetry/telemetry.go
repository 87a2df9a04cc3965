// Package telemetry sets up the traces, metrics and logs of a process:
// OpenTelemetry configured by the standard OTEL_* variables, metrics in a
// Prometheus registry, and slog lines with the trace id.
//
// Nothing is exported unless it is asked for: traces, metrics and logs if
// OTEL_EXPORTER_OTLP_ENDPOINT is set, one of them if its own variable is:
// OTEL_TRACES_EXPORTER or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, and so with METRICS and
// LOGS. It is the only package that sets the global providers.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/otel"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/propagation"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
)

// Telemetry holds the providers of a process.
type Telemetry struct {
	// Registry has the metrics, for the admin port to serve.
	Registry *prometheus.Registry
	traces   *sdktrace.TracerProvider
	metrics  *sdkmetric.MeterProvider
	logs     *sdklog.LoggerProvider
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

// Start sets the global tracer, meter and logger providers and the propagator (W3C trace
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
	if configured("TRACES") {
		exp, err := autoexport.NewSpanExporter(ctx)
		if err != nil {
			return nil, exporterError("TRACES", err)
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
	metrics := []sdkmetric.Option{sdkmetric.WithReader(reader), sdkmetric.WithResource(res),
		sdkmetric.WithView(secondsView())}
	if configured("METRICS") {
		exported, err := autoexport.NewMetricReader(ctx)
		if err != nil {
			return nil, exporterError("METRICS", err)
		}
		metrics = append(metrics, sdkmetric.WithReader(exported))
	}
	logs := []sdklog.LoggerProviderOption{sdklog.WithResource(res)}
	if configured("LOGS") {
		exp, err := autoexport.NewLogExporter(ctx)
		if err != nil {
			return nil, exporterError("LOGS", err)
		}
		logs = append(logs, sdklog.WithProcessor(sdklog.NewBatchProcessor(exp)))
	}
	t := &Telemetry{
		Registry: registry,
		traces:   sdktrace.NewTracerProvider(opts...),
		metrics:  sdkmetric.NewMeterProvider(metrics...),
		logs:     sdklog.NewLoggerProvider(logs...),
	}
	otel.SetTracerProvider(t.traces)
	otel.SetMeterProvider(t.metrics)
	otel.SetLoggerProvider(t.logs)
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

// configured reports whether the environment configures an exporter of a signal:
// TRACES, METRICS or LOGS.
func configured(signal string) bool {
	return os.Getenv("OTEL_"+signal+"_EXPORTER") != "" ||
		os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" ||
		os.Getenv("OTEL_EXPORTER_OTLP_"+signal+"_ENDPOINT") != ""
}

func exporterError(signal string, err error) error {
	name := "OTEL_" + signal + "_EXPORTER"
	return fmt.Errorf("exporter of %s (%s=%q): %w", strings.ToLower(signal), name, os.Getenv(name), err)
}

// Shutdown exports what is still buffered and stops the providers.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	return errors.Join(t.traces.Shutdown(ctx), t.metrics.Shutdown(ctx), t.logs.Shutdown(ctx))
}

// Flush is Shutdown for the end of a process: it takes at most five seconds and
// ignores errors.
func (t *Telemetry) Flush() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = t.Shutdown(ctx)
}
