package grpcserver

import (
	"context"
	"net"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"
)

// spanOptions are what the spans of a method begin with.
func spanOptions(method string) []trace.SpanStartOption {
	return []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(semconv.RPCMethod(method), semconv.RPCSystemNameGRPC)}
}

// incoming reads the metadata of a call for a propagator, without a copy of all of it.
type incoming struct {
	ctx context.Context //nolint:containedctx // it carries the metadata
}

// Get implements propagation.TextMapCarrier.
func (c incoming) Get(key string) string {
	if values := metadata.ValueFromIncomingContext(c.ctx, key); len(values) > 0 {
		return values[0]
	}
	return ""
}

// Values implements propagation.ValuesGetter.
func (c incoming) Values(key string) []string { return metadata.ValueFromIncomingContext(c.ctx, key) }

// Set does nothing: what came is only read.
func (incoming) Set(string, string) {}

// Keys implements propagation.TextMapCarrier.
func (c incoming) Keys() []string {
	md, _ := metadata.FromIncomingContext(c.ctx)
	names := make([]string, 0, len(md))
	for name := range md {
		names = append(names, name)
	}
	return names
}

// serverAddress is an address of this server and the attributes that name it.
type serverAddress struct {
	address *net.TCPAddr
	attrs   []attribute.KeyValue
}

// addressOf returns the attributes of an address of this server. A server has one, or a few: the last one is kept.
func (m *measurements) addressOf(a net.Addr) []attribute.KeyValue {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return []attribute.KeyValue{semconv.ServerAddress(a.String())}
	}
	if last := m.address.Load(); last != nil && last.address.Port == tcp.Port && last.address.IP.Equal(tcp.IP) &&
		last.address.Zone == tcp.Zone {
		return last.attrs
	}
	host, _, err := net.SplitHostPort(tcp.String())
	if err != nil {
		host = tcp.IP.String()
	}
	attrs := []attribute.KeyValue{semconv.ServerAddress(host), semconv.ServerPort(tcp.Port)}
	m.address.Store(&serverAddress{tcp, attrs})
	return attrs
}
