package grpcserver

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/rpcconv"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
)

// unknownMethod is the rpc.method of all methods that don't exist, by OpenTelemetry's
// conventions. Callers choose their names, and could make any number of series.
const unknownMethod = "_OTHER"

// measurements times each call, rpc.server.call.duration, with its method and the code
// that its caller got, as OpenTelemetry's conventions 1.43.0 name them. It is a stats
// handler, and the tap adds what is refused before there is a call. otelgrpc's own
// metric misses those, and has CANCELLED for a stream whose deadline has passed: the
// transport ends the stream's context before it does.
//
// It also makes the span of each call of a method that exists, a child of the one that its metadata names. All that is
// the same for each call of a method is made once: otelgrpc makes it anew, and copies the metadata.
type measurements struct {
	duration   rpcconv.ServerCallDuration
	methods    *methods
	tracer     trace.Tracer
	propagator propagation.TextMapPropagator
	address    atomic.Pointer[serverAddress]
}

func newMeasurements(m *methods) *measurements {
	// An instrument that can't be made is a no-op one.
	duration, _ := rpcconv.NewServerCallDuration(otel.Meter("github.com/purserhq/purser/pkg/grpcserver",
		metric.WithSchemaURL(semconv.SchemaURL)))
	return &measurements{duration: duration, methods: m, propagator: otel.GetTextMapPropagator(),
		tracer: otel.Tracer("github.com/purserhq/purser/pkg/grpcserver", trace.WithSchemaURL(semconv.SchemaURL))}
}

// codeCount is the number of the codes of gRPC, which begin at 0.
const codeCount = int(codes.Unauthenticated) + 1

// codeAttributes are the attributes of a span with the codes of gRPC.
var codeAttributes = func() (all [codeCount]attribute.KeyValue) {
	for i := range all {
		all[i] = semconv.RPCResponseStatusCode(codeName(codes.Code(i))) //nolint:gosec // 0 to 16
	}
	return all
}()

func codeAttribute(c codes.Code) attribute.KeyValue {
	if int(c) < codeCount {
		return codeAttributes[c]
	}
	return semconv.RPCResponseStatusCode(codeName(c))
}

// series are the attributes of a method's calls, by code.
type series [codeCount]attribute.Set

func newSeries(method string) *series {
	s := &series{}
	for i := range s {
		code := codes.Code(i) //nolint:gosec // 0 to 16
		attrs := []attribute.KeyValue{semconv.RPCSystemNameGRPC, semconv.RPCMethod(method),
			semconv.RPCResponseStatusCode(codeName(code))}
		if serverError(code) {
			attrs = append(attrs, semconv.ErrorTypeKey.String(codeName(code)))
		}
		s[i] = attribute.NewSet(attrs...)
	}
	return s
}

// codeName is a code's name in gRPC's specification, such as NOT_FOUND.
func codeName(c codes.Code) string {
	if c == codes.Canceled {
		return "CANCELLED"
	}
	var b strings.Builder
	for i, r := range c.String() {
		if i > 0 && r >= 'A' && r <= 'Z' && c != codes.OK {
			b.WriteByte('_')
		}
		b.WriteRune(r)
	}
	return strings.ToUpper(b.String())
}

// serverError reports whether a code is an error of the server, by OpenTelemetry's
// conventions for gRPC. The others are answers that the caller has caused.
func serverError(c codes.Code) bool {
	switch c {
	case codes.Unknown, codes.DeadlineExceeded, codes.Unimplemented, codes.Internal, codes.Unavailable,
		codes.DataLoss:
		return true
	}
	return false
}

// measuredCall is a call that measurements looks at.
type measuredCall struct {
	series *series
	span   trace.Span           // nil without one
	local  []attribute.KeyValue // the server's address, for the span
	// deadline is the caller's; zero without one.
	deadline time.Time
	// reserve is what deadlineLayer keeps of the call's time.
	reserve time.Duration
}

type measuredCallKey struct{}

// TagRPC is called at the begin of a call.
func (m *measurements) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	if strings.HasPrefix(info.FullMethodName, "/grpc.health.v1.Health/") {
		return ctx
	}
	of := m.methods.of(info.FullMethodName)
	c := &measuredCall{series: of.series}
	if of.span != "" {
		ctx, c.span = m.tracer.Start(m.propagator.Extract(ctx, incoming{ctx}), of.span, of.spanOptions...)
	}
	if deadline, ok := ctx.Deadline(); ok {
		c.deadline, c.reserve = deadline, replyReserve(time.Until(deadline))
	}
	return context.WithValue(ctx, measuredCallKey{}, c)
}

// HandleRPC records a call at its end.
func (m *measurements) HandleRPC(ctx context.Context, event stats.RPCStats) {
	switch event := event.(type) {
	case *stats.InHeader:
		if c, ok := ctx.Value(measuredCallKey{}).(*measuredCall); ok && c.span != nil && event.LocalAddr != nil {
			c.local = m.addressOf(event.LocalAddr)
		}
	case *stats.End:
		if c, ok := ctx.Value(measuredCallKey{}).(*measuredCall); ok {
			m.end(ctx, c, event)
		}
	}
}

func (m *measurements) end(ctx context.Context, c *measuredCall, end *stats.End) {
	code := status.Code(end.Error)
	// The caller's own clock and ours end a call at about the same time. Its caller has
	// DEADLINE_EXCEEDED in both cases.
	if code == codes.Canceled && !c.deadline.IsZero() && c.deadline.Sub(end.EndTime) <= c.reserve {
		code = codes.DeadlineExceeded
	}
	if c.span != nil && c.span.IsRecording() {
		c.span.SetAttributes(append(c.local[:len(c.local):len(c.local)], codeAttribute(code))...)
		if serverError(code) {
			c.span.SetStatus(otelcodes.Error, status.Convert(end.Error).Message())
		}
		c.span.End()
	}
	m.record(ctx, c.series, code, end.EndTime.Sub(end.BeginTime))
}

// refused records a call that was refused before its begin.
func (m *measurements) refused(ctx context.Context, fullMethod string, code codes.Code) {
	m.record(ctx, m.methods.of(fullMethod).series, code, 0)
}

func (m *measurements) record(ctx context.Context, s *series, code codes.Code, took time.Duration) {
	if int(code) >= codeCount { // a handler's own, of which there may be any number
		code = codes.Unknown
	}
	m.duration.RecordSet(ctx, took.Seconds(), s[code])
}

// TagConn and HandleConn are of no interest here.
func (*measurements) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn is of no interest here.
func (*measurements) HandleConn(context.Context, stats.ConnStats) {}
