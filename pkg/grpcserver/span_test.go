package grpcserver_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/errs/grpcerr"
	"github.com/purserhq/purser/pkg/testkit"
)

func TestTheServersSpanHasTheReasonOfTheAnsweredError(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	before := otel.GetTracerProvider()
	otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)))
	t.Cleanup(func() { otel.SetTracerProvider(before) })
	answers := map[string]error{
		"DATABASE_UNAVAILABLE": errs.Unavailable("DATABASE_UNAVAILABLE", "no database"),
		"INTERNAL":             errs.Internal(errors.New("a cause")),
		"DEADLINE_EXCEEDED":    context.DeadlineExceeded,
		"":                     nil,
	}
	for want, answer := range answers {
		spans.Reset()
		r := start(t, plaintext(), echo{unary: func(_ context.Context, in *dynamicpb.Message) (*dynamicpb.Message,
			error) {
			return in, answer
		}})
		ctx, cancel := context.WithTimeout(as(t, "Bearer reader-secret"), time.Minute)
		_, _ = r.call(ctx, read, newNote("ok"))
		cancel()
		got := "no span"
		testkit.Eventually(t, 5*time.Second, func() bool {
			for _, s := range spans.Ended() {
				if s.SpanKind() != trace.SpanKindServer {
					continue
				}
				got = ""
				for _, a := range s.Attributes() {
					if a.Key == "purser.error.reason" {
						got = a.Value.AsString()
					}
				}
			}
			return got != "no span"
		})
		if got != want {
			t.Errorf("the span has the reason %q, want %q", got, want)
		}
	}
}

// The spans are those of OpenTelemetry's own instrumentation, from the name to the status.
func TestSpansAreThoseOfOtelgrpc(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	provider, propagator := otel.GetTracerProvider(), otel.GetTextMapPropagator()
	otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)))
	otel.SetTextMapPropagator(propagation.TraceContext{})
	t.Cleanup(func() {
		otel.SetTracerProvider(provider)
		otel.SetTextMapPropagator(propagator)
	})
	for _, answer := range []error{nil, errs.NotFound("a note"), errs.Internal(errors.New("a cause")),
		errs.Unavailable("DATABASE_UNAVAILABLE", "no database")} {
		does := echo{
			unary:  func(_ context.Context, in *dynamicpb.Message) (*dynamicpb.Message, error) { return in, answer },
			stream: func(grpc.ServerStream) error { return answer },
		}
		ours := start(t, plaintext(), does)
		plain := grpc.NewServer(grpc.StatsHandler(otelgrpc.NewServerHandler()),
			grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo,
				next grpc.UnaryHandler) (any, error) {
				out, err := next(ctx, req)
				return out, grpcerr.ToStatus(err).Err()
			}),
			grpc.ChainStreamInterceptor(func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo,
				next grpc.StreamHandler) error {
				return grpcerr.ToStatus(next(srv, ss)).Err()
			}))
		plain.RegisterService(does.desc(), does)
		lis, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() { _ = plain.Serve(lis) }()
		t.Cleanup(plain.Stop)
		theirs, err := grpc.NewClient(lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = theirs.Close() })
		for _, method := range []string{read, stream} {
			got, want := spanOf(t, spans, ours.conn, method), spanOf(t, spans, theirs, method)
			if got != want {
				t.Errorf("%s that answers %v:\n%s, want\n%s", method, answer, got, want)
			}
		}
	}
}

// spanOf returns what a server's span of a call says, without what differs from call to call.
func spanOf(t *testing.T, spans *tracetest.SpanRecorder, conn *grpc.ClientConn, method string) string {
	t.Helper()
	spans.Reset()
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	ctx := metadata.AppendToOutgoingContext(as(t, "Bearer reader-secret"), "traceparent", parent)
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		t.Fatal(err)
	}
	_ = s.SendMsg(newNote("ok")) // RecvMsg tells why it failed
	_ = s.CloseSend()
	for err == nil {
		err = s.RecvMsg(dynamicpb.NewMessage(note()))
	}
	testkit.Eventually(t, 5*time.Second, func() bool { return len(spans.Ended()) == 1 })
	span := spans.Ended()[0]
	attributes := map[string]string{}
	for _, a := range span.Attributes() {
		if a.Key != "server.port" && a.Key != "purser.error.reason" {
			attributes[string(a.Key)] = a.Value.String()
		}
	}
	return fmt.Sprintf("%s %s of %s %s remote %t: %v %s %q", span.Name(), span.SpanKind(), span.Parent().TraceID(),
		span.Parent().SpanID(), span.Parent().IsRemote(), attributes, span.Status().Code, span.Status().Description)
}
