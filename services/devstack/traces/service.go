package traces

import (
	"context"
	"strings"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/peer"
)

// Service is the attribute with the name of a span's service.
const Service attribute.Key = "purser.service"

// chain is the service name of the embedded chain's spans.
const chain = "chain"

type serviceKey struct{}

// WithService returns a context whose root spans get this service name.
func WithService(ctx context.Context, service string) context.Context {
	return context.WithValue(ctx, serviceKey{}, service)
}

// servers are the names of the services by the address that each listens on.
var servers sync.Map

// Listens says which service of this process listens on an address, host:port.
func Listens(address, service string) { servers.Store(address, service) }

// setService finds the service of a span: by the address at which it was called, else by its parent span
// in this process, its context or its database. The span of a job has none of these; it gets the service
// of its first child with a database.
func setService(ctx context.Context, s sdktrace.ReadWriteSpan) {
	service := servedBy(ctx, s)
	parent, unnamed := trace.SpanFromContext(ctx).(sdktrace.ReadWriteSpan)
	unnamed = unnamed && service == ""
	if unnamed {
		service = value(parent.Attributes(), Service)
		unnamed = service == ""
	}
	if service == "" {
		service, _ = ctx.Value(serviceKey{}).(string)
	}
	if service == "" {
		service, _ = strings.CutPrefix(value(s.Attributes(), semconv.DBNamespaceKey), "purser_")
	}
	if service == "" {
		return
	}
	s.SetAttributes(Service.String(service))
	if unnamed {
		parent.SetAttributes(Service.String(service))
	}
}

// servedBy returns the service that a server span belongs to, chain for the embedded node; "" for
// other spans. The method doesn't tell it: every service serves the health of its jobs and dependencies,
// and anybody can call a method that there is not.
func servedBy(ctx context.Context, s sdktrace.ReadOnlySpan) string {
	if strings.HasPrefix(s.Name(), "jsonrpc.") {
		return chain
	}
	called, ok := peer.FromContext(ctx)
	if s.SpanKind() != trace.SpanKindServer || !ok || called.LocalAddr == nil {
		return ""
	}
	name, _ := servers.Load(called.LocalAddr.String())
	service, _ := name.(string)
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

// ByService wraps an exporter: each span gets a resource with the name of its service, as if the
// service ran as a program of its own.
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
