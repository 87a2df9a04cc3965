package grpcserver_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcserver"
	"github.com/purserhq/purser/pkg/testkit"
)

// measured has what servers report that are started after it: of each method and code, the calls.
type measured struct{ reader *sdkmetric.ManualReader }

func measure(t *testing.T) measured {
	t.Helper()
	m := measured{sdkmetric.NewManualReader()}
	before := otel.GetMeterProvider()
	otel.SetMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(m.reader)))
	t.Cleanup(func() { otel.SetMeterProvider(before) })
	return m
}

func (m measured) calls(t testing.TB) map[string]uint64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := m.reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	found := map[string]uint64{}
	for _, scope := range all.ScopeMetrics {
		for _, metric := range scope.Metrics {
			h, ok := metric.Data.(metricdata.Histogram[float64])
			if !ok || metric.Name != "rpc.server.call.duration" {
				continue
			}
			for _, p := range h.DataPoints {
				method, _ := p.Attributes.Value("rpc.method")
				code, _ := p.Attributes.Value("rpc.response.status_code")
				system, _ := p.Attributes.Value("rpc.system.name")
				if system.AsString() != "grpc" {
					t.Errorf("rpc.system.name is %q", system.AsString())
				}
				found[method.AsString()+" "+code.AsString()] += p.Count
			}
		}
	}
	return found
}

// raw sends a request as no client of gRPC would and returns the status that is answered.
func raw(t *testing.T, addr, path string, body []byte, headers map[string]string) codes.Code {
	t.Helper()
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}}
	for name, value := range headers {
		r.Header.Set(name, value)
	}
	answer, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	_, _ = io.Copy(io.Discard, answer.Body)
	text := answer.Header.Get("Grpc-Status") + answer.Trailer.Get("Grpc-Status")
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		t.Fatalf("the status is %q: %v", text, err)
	}
	return codes.Code(n)
}

// Each kind of call is counted once, under its method and the code that its caller got.
func TestEveryCallIsMeasuredWithTheCodeThatItsCallerGot(t *testing.T) {
	large := newNote(strings.Repeat("x", grpcserver.MaxMessage))
	noText := dynamicpb.NewMessage(note())
	noText.SetUnknown(protoreflect.RawFields{0x0a, 0x02, 0xff, 0xfe})
	until := func(ctx context.Context, _ *dynamicpb.Message) (*dynamicpb.Message, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	panics := func(context.Context, *dynamicpb.Message) (*dynamicpb.Message, error) { panic("fell over") }
	answersLarge := func(context.Context, *dynamicpb.Message) (*dynamicpb.Message, error) { return large, nil }
	untilStream := func(ss grpc.ServerStream) error {
		<-ss.Context().Done()
		return ss.Context().Err()
	}
	invoke := func(method string, in *dynamicpb.Message) func(*testing.T, *running) codes.Code {
		return func(t *testing.T, r *running) codes.Code {
			t.Helper()
			return status.Code(r.conn.Invoke(t.Context(), method, in, dynamicpb.NewMessage(note()),
				grpc.MaxCallSendMsgSize(64<<20)))
		}
	}
	within := func(limit time.Duration, method string) func(*testing.T, *running) codes.Code {
		return func(t *testing.T, r *running) codes.Code {
			t.Helper()
			ctx, cancel := context.WithTimeout(as(t, "Bearer reader-secret"), limit)
			defer cancel()
			if method != stream {
				return status.Code(r.conn.Invoke(ctx, method, newNote("x"), dynamicpb.NewMessage(note())))
			}
			s := r.openStream(ctx, t)
			return status.Code(s.RecvMsg(dynamicpb.NewMessage(note())))
		}
	}
	for name, tc := range map[string]struct {
		echo echo
		call func(*testing.T, *running) codes.Code
		want string
		code codes.Code
	}{
		"a call that goes well": {call: invoke(open, newNote("x")), want: open + " OK"},
		"a stream that goes well": {
			echo: echo{stream: func(grpc.ServerStream) error { return nil }},
			call: func(t *testing.T, r *running) codes.Code {
				t.Helper()
				err := r.openStream(as(t, "Bearer reader-secret"), t).RecvMsg(newNote(""))
				if errors.Is(err, io.EOF) {
					return codes.OK
				}
				return status.Code(err)
			}, want: stream + " OK"},
		"an error of the handler": {
			echo: echo{unary: func(context.Context, *dynamicpb.Message) (*dynamicpb.Message, error) {
				return nil, errs.NotFound("note")
			}},
			call: invoke(open, newNote("x")), want: open + " NOT_FOUND", code: codes.NotFound},
		"a panic": {
			echo: echo{unary: panics},
			call: invoke(open, newNote("x")), want: open + " INTERNAL", code: codes.Internal},
		"no token": {call: invoke(mine, newNote("x")), want: mine + " UNAUTHENTICATED",
			code: codes.Unauthenticated},
		"an invalid one": {call: invoke(open, newNote("longer")), want: open + " INVALID_ARGUMENT",
			code: codes.InvalidArgument},
		"an unknown method": {call: invoke("/test.v1.Echo/Nothing", newNote("x")), want: "/_OTHER UNIMPLEMENTED",
			code: codes.Unimplemented},
		"an unknown service": {call: invoke("/test.v1.Nothing/Open", newNote("x")), want: "/_OTHER UNIMPLEMENTED",
			code: codes.Unimplemented},
		"no name of a method": {call: func(t *testing.T, r *running) codes.Code {
			t.Helper()
			return raw(t, r.addr, "/nothing", nil, nil)
		}, want: "/_OTHER UNIMPLEMENTED", code: codes.Unimplemented},
		"too much metadata": {call: func(t *testing.T, r *running) codes.Code {
			t.Helper()
			return status.Code(r.conn.Invoke(withHeader(t.Context(), grpcserver.MaxHeaders), open, newNote("x"),
				newNote("")))
		}, want: open + " RESOURCE_EXHAUSTED", code: codes.ResourceExhausted},
		"too much metadata for an unknown method": {call: func(t *testing.T, r *running) codes.Code {
			t.Helper()
			return status.Code(r.conn.Invoke(withHeader(t.Context(), grpcserver.MaxHeaders), "/a/B", newNote("x"),
				newNote("")))
		}, want: "/_OTHER RESOURCE_EXHAUSTED", code: codes.ResourceExhausted},
		"a message that is too large": {call: invoke(open, large), want: open + " RESOURCE_EXHAUSTED",
			code: codes.ResourceExhausted},
		"an answer that is too large": {
			echo: echo{unary: answersLarge},
			call: invoke(open, newNote("x")), want: open + " RESOURCE_EXHAUSTED", code: codes.ResourceExhausted},
		"bytes that are no message": {call: invoke(open, noText), want: open + " INVALID_ARGUMENT",
			code: codes.InvalidArgument},
		"a call without a message": {call: func(t *testing.T, r *running) codes.Code {
			t.Helper()
			return raw(t, r.addr, open, nil, nil)
		}, want: open + " INTERNAL", code: codes.Internal},
		"a compression that isn't known": {call: func(t *testing.T, r *running) codes.Code {
			t.Helper()
			return raw(t, r.addr, open, nil, map[string]string{"Grpc-Encoding": "of-my-own"})
		}, want: open + " UNIMPLEMENTED", code: codes.Unimplemented},
		"a deadline that has passed at the arrival": {call: func(t *testing.T, r *running) codes.Code {
			t.Helper()
			return raw(t, r.addr, open, nil, map[string]string{"Grpc-Timeout": "1n"})
		}, want: open + " DEADLINE_EXCEEDED", code: codes.DeadlineExceeded},
		"a deadline that passes in the handler": {echo: echo{unary: until}, call: within(300*time.Millisecond, read),
			want: read + " DEADLINE_EXCEEDED", code: codes.DeadlineExceeded},
		"a deadline that passes in a stream": {echo: echo{stream: untilStream},
			call: within(300*time.Millisecond, stream), want: stream + " DEADLINE_EXCEEDED",
			code: codes.DeadlineExceeded},
		"a caller that goes away": {
			echo: echo{stream: func(ss grpc.ServerStream) error {
				if err := ss.SendMsg(newNote("x")); err != nil {
					return err
				}
				return untilStream(ss)
			}},
			call: func(t *testing.T, r *running) codes.Code {
				t.Helper()
				ctx, cancel := context.WithTimeout(as(t, "Bearer reader-secret"), time.Minute)
				defer cancel()
				s := r.openStream(ctx, t)
				if err := s.RecvMsg(newNote("")); err != nil {
					t.Fatal(err)
				}
				cancel()
				return status.Code(s.RecvMsg(newNote("")))
			}, want: stream + " CANCELLED", code: codes.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			m := measure(t)
			r := start(t, plaintext(), tc.echo)
			if got := tc.call(t, r); got != tc.code {
				t.Errorf("the caller got %v, want %v", got, tc.code)
			}
			var got map[string]uint64
			testkit.Eventually(t, 10*time.Second, func() bool { // a series may be seen before its first count
				got = m.calls(t)
				for _, n := range got {
					if n > 0 {
						return true
					}
				}
				return false
			})
			if len(got) != 1 || got[tc.want[1:]] != 1 {
				t.Errorf("measured %v, want one call of %q", got, tc.want[1:])
			}
		})
	}
}

// Callers choose the names of methods that don't exist, and these have one series together.
func TestAFloodOfInventedMethodsIsOneSeries(t *testing.T) {
	m := measure(t)
	r := start(t, plaintext(), echo{})
	const invented = 500
	for i := range invented {
		name := fmt.Sprintf("/test.v1.Echo/M%d", i)
		if i%2 == 0 {
			name = fmt.Sprintf("/test.v%d.Echo/Open", i)
		}
		err := r.conn.Invoke(t.Context(), name, newNote("x"), newNote(""))
		if status.Code(err) != codes.Unimplemented {
			t.Fatal(name, err)
		}
	}
	if _, e := r.call(t.Context(), open, newNote("x")); e != nil { // the control: a method that exists
		t.Fatal(e)
	}
	if _, err := healthpb.NewHealthClient(r.conn).Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
		t.Fatal(err)
	}
	want := map[string]uint64{"_OTHER UNIMPLEMENTED": invented, open[1:] + " OK": 1}
	testkit.Eventually(t, 10*time.Second, func() bool { return maps.Equal(m.calls(t), want) })
	if keys := slices.Sorted(maps.Keys(m.calls(t))); len(keys) != len(want) {
		t.Errorf("measured %v", keys)
	}
}
