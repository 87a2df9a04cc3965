package grpcserver_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/purserhq/purser/pkg/errs"
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
