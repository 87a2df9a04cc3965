package traces_test

import (
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/purserhq/purser/services/devstack/traces"
)

// Every service serves JobService, so the method's package doesn't name the service.
func TestACallOfTheJobServiceBelongsToTheServiceWhoseDatabaseItReads(t *testing.T) {
	ring := traces.NewRing(10)
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(ring))
	tracer := provider.Tracer("test")
	ctx, call := tracer.Start(t.Context(), "purser.jobs.v1.JobService/ListJobRuns",
		trace.WithSpanKind(trace.SpanKindServer))
	_, query := tracer.Start(ctx, "SELECT", trace.WithAttributes(semconv.DBNamespace("purser_wallet")))
	query.End()
	call.End()
	for _, span := range ring.Trace(call.SpanContext().TraceID()).Spans {
		if span.Service != "wallet" {
			t.Errorf("%s belongs to %q", span.Name, span.Service)
		}
	}
}
