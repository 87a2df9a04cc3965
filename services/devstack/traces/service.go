package traces

import (
	"context"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
	"go.opentelemetry.io/otel/trace"
)

// Service is the attribute with the name of the service that a span is of.
const Service attribute.Key = "purser.service"

// chain is what the embedded chain's spans are of.
const chain = "chain"

type serviceKey struct{}

// In returns a context whose spans are of this service, unless they are below
// another one's.
func In(ctx context.Context, service string) context.Context {
	return context.WithValue(ctx, serviceKey{}, service)
}

// name gives a span the name of its service: that of the method it answers,
// else that of the span above it in this process, of its context or of its
// database. A job's span has none of these and takes it from the first
// statement below it.
func name(parent context.Context, s sdktrace.ReadWriteSpan) {
	service := answers(s)
	above, ok := trace.SpanFromContext(parent).(sdktrace.ReadWriteSpan)
	ok = ok && service == ""
	if ok {
		service = value(above.Attributes(), Service)
	}
	if service != "" {
		ok = false // the span above has it too
	}
	if service == "" {
		service, _ = parent.Value(serviceKey{}).(string)
	}
	if service == "" {
		service, _ = strings.CutPrefix(value(s.Attributes(), semconv.DBNamespaceKey), "purser_")
	}
	if service == "" {
		return
	}
	s.SetAttributes(Service.String(service))
	if ok {
		above.SetAttributes(Service.String(service))
	}
}

// answers is the service whose method a server's span answers, "" of others;
// the embedded chain is one.
func answers(s sdktrace.ReadOnlySpan) string {
	if strings.HasPrefix(s.Name(), "jsonrpc.") {
		return chain
	}
	if s.SpanKind() != trace.SpanKindServer {
		return ""
	}
	rest, ok := strings.CutPrefix(s.Name(), "purser.")
	service, _, _ := strings.Cut(rest, ".")
	if !ok {
		return ""
	}
	return service
}

func value(attrs []attribute.KeyValue, key attribute.Key) string {
	for _, a := range attrs {
		if a.Key == key {
			return a.Value.AsString()
		}
	}
	return ""
}

// ByService is an exporter that sends each span as of a resource of its
// service's own, named as the service's program names it.
func ByService(to sdktrace.SpanExporter) sdktrace.SpanExporter { return byService{to} }

type byService struct{ sdktrace.SpanExporter }

func (e byService) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	named := make([]sdktrace.ReadOnlySpan, 0, len(spans))
	for _, s := range spans {
		if service := value(s.Attributes(), Service); service != "" {
			own := resource.NewSchemaless(semconv.ServiceName("purser-" + service))
			if merged, err := resource.Merge(s.Resource(), own); err == nil {
				s = ofService{s, merged}
			}
		}
		named = append(named, s)
	}
	return e.SpanExporter.ExportSpans(ctx, named)
}

type ofService struct {
	sdktrace.ReadOnlySpan
	resource *resource.Resource
}

func (s ofService) Resource() *resource.Resource { return s.resource }
