package grpcclient_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/errs/grpcerr"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
)

func TestMain(m *testing.M) { testkit.LeakFree(m) }

const (
	again  = "/test.v1.Echo/Again" // may be repeated
	once   = "/test.v1.Echo/Once"
	stream = "/test.v1.Echo/Stream"
)

// peer is a bare gRPC server that answers every method by fn.
type peer struct {
	addr  string
	calls atomic.Int64
	fn    func(ctx context.Context, method string) error

	mu     sync.Mutex
	tokens [][]string
}

func serve(t *testing.T, fn func(ctx context.Context, method string) error) *peer {
	t.Helper()
	p := &peer{fn: fn}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.addr = lis.Addr().String()
	s := grpc.NewServer(grpc.UnknownServiceHandler(p.handle))
	h := health.NewServer()
	healthpb.RegisterHealthServer(s, h)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(lis)
	}()
	t.Cleanup(func() { s.Stop(); <-done })
	return p
}

func (p *peer) handle(_ any, ss grpc.ServerStream) error {
	p.calls.Add(1)
	method, _ := grpc.MethodFromServerStream(ss)
	md, _ := metadata.FromIncomingContext(ss.Context())
	p.mu.Lock()
	p.tokens = append(p.tokens, md.Get("authorization"))
	p.mu.Unlock()
	in := &wrapperspb.StringValue{}
	if err := ss.RecvMsg(in); err != nil {
		return err
	}
	if method == stream {
		if err := ss.SendMsg(in); err != nil {
			return err
		}
	}
	if err := p.fn(ss.Context(), method); err != nil || method == stream {
		return err
	}
	return ss.SendMsg(in)
}

func (p *peer) lastToken() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tokens[len(p.tokens)-1]
}

func dial(t *testing.T, p *peer) *grpc.ClientConn {
	t.Helper()
	conn, err := grpcclient.Dial(grpcclient.Config{Addr: p.addr, Plaintext: true}, []string{again})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func call(ctx context.Context, conn *grpc.ClientConn, method string) error {
	return conn.Invoke(ctx, method, wrapperspb.String("x"), &wrapperspb.StringValue{})
}

func fine(context.Context, string) error { return nil }

func TestAnErrorComesBackTyped(t *testing.T) {
	for name, sent := range map[string]*errs.Error{
		"not found":           errs.NotFound("wallet"),
		"invalid, its fields": errs.Invalid("page_token", "must be one of ours"),
		"exhausted, its time": errs.Exhausted("RATE_LIMITED", "too many").After(3 * time.Second),
		"internal":            errs.Internal(errors.New("hunter2")),
		"unavailable":         errs.Unavailable("NODE_AWAY", "the node doesn't answer"),
	} {
		t.Run(name, func(t *testing.T) {
			p := serve(t, func(context.Context, string) error { return grpcerr.ToStatus(sent).Err() })
			check := func(err error) {
				t.Helper()
				e := errs.As(err)
				if e == nil || e.Kind != sent.Kind || e.Reason != sent.Reason || e.Message != sent.Message ||
					e.RetryAfter != sent.RetryAfter || !slices.Equal(e.Violations, sent.Violations) {
					t.Errorf("came back as %+v", err)
				}
			}
			conn := dial(t, p)
			check(call(t.Context(), conn, once))
			check(call(t.Context(), conn, again)) // of an unavailable service after four attempts
			s := openStream(t.Context(), t, conn)
			if err := s.RecvMsg(&wrapperspb.StringValue{}); err != nil {
				t.Fatal(err)
			}
			check(s.RecvMsg(&wrapperspb.StringValue{}))
		})
	}
}

func openStream(ctx context.Context, t *testing.T, conn *grpc.ClientConn) grpc.ClientStream {
	t.Helper()
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, stream)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SendMsg(wrapperspb.String("x")); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAStreamThatEndsWellEndsWithEOF(t *testing.T) {
	s := openStream(t.Context(), t, dial(t, serve(t, fine)))
	if err := s.RecvMsg(&wrapperspb.StringValue{}); err != nil {
		t.Fatal(err)
	}
	if err := s.RecvMsg(&wrapperspb.StringValue{}); err != io.EOF { //nolint:errorlint // generated code compares it so
		t.Errorf("error %v", err)
	}
}

func TestOnlyWhatMayBeRepeatedIsRetried(t *testing.T) {
	for name, tt := range map[string]struct {
		method string
		code   codes.Code
		fails  int64 // calls that fail before one goes well
		calls  int64
		ok     bool
	}{
		"a repeatable one, until it goes well":      {again, codes.Unavailable, 2, 3, true},
		"a repeatable one, four times at most":      {again, codes.Unavailable, 99, 4, false},
		"a repeatable one, not for another reason":  {again, codes.Internal, 99, 1, false},
		"a repeatable one, not when it is too much": {again, codes.ResourceExhausted, 99, 1, false},
		"any other is called once":                  {once, codes.Unavailable, 99, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			var p *peer
			p = serve(t, func(context.Context, string) error {
				if p.calls.Load() <= tt.fails {
					return status.Error(tt.code, "no")
				}
				return nil
			})
			err := call(t.Context(), dial(t, p), tt.method)
			if n := p.calls.Load(); n != tt.calls || (err == nil) != tt.ok {
				t.Errorf("%d calls, %v; want %d", n, err, tt.calls)
			}
		})
	}
}

func TestACallHasADeadline(t *testing.T) {
	var left time.Duration
	p := serve(t, func(ctx context.Context, _ string) error {
		d, ok := ctx.Deadline()
		if !ok {
			return errors.New("no deadline")
		}
		left = time.Until(d)
		return nil
	})
	conn := dial(t, p)
	if err := call(t.Context(), conn, once); err != nil || left <= 0 || left > grpcclient.DefaultTimeout {
		t.Errorf("without one the default is set: %s, %v", left, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	if err := call(ctx, conn, once); err != nil || left <= grpcclient.DefaultTimeout {
		t.Errorf("the caller's own was cut to %s, %v", left, err)
	}
	patient, err := grpcclient.Dial(grpcclient.Config{Addr: p.addr, Plaintext: true, Timeout: time.Hour}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = patient.Close() })
	if err := call(t.Context(), patient, once); err != nil || left <= time.Hour/2 || left > time.Hour {
		t.Errorf("the connection's own is not set: %s, %v", left, err)
	}
	over, cancel := context.WithTimeout(t.Context(), -time.Second)
	defer cancel()
	if err := call(over, conn, once); !errs.Is(err, errs.KindDeadline) {
		t.Errorf("a call out of time: %v", err)
	}
}

func TestTheCallersTokenIsForwardedUnlessOneIsSetByHand(t *testing.T) {
	p := serve(t, fine)
	conn := dial(t, p)
	caller := authn.WithCaller(t.Context(), authn.Caller{UserID: uuid.New(), Token: "callers"})
	for name, tt := range map[string]struct {
		ctx  context.Context //nolint:containedctx // a table of contexts
		want []string
	}{
		"nobody's":                            {t.Context(), nil},
		"the caller's":                        {caller, []string{"Bearer callers"}},
		"one set by hand":                     {grpcclient.WithToken(t.Context(), "mine"), []string{"Bearer mine"}},
		"one set by hand beside the caller's": {grpcclient.WithToken(caller, "mine"), []string{"Bearer mine"}},
		"the later one of two": {grpcclient.WithToken(grpcclient.WithToken(caller, "first"), "mine"),
			[]string{"Bearer mine"}},
		"one set beside other metadata": {grpcclient.WithToken(
			metadata.AppendToOutgoingContext(t.Context(), "k", "v"), "mine"), []string{"Bearer mine"}},
		"an anonymous caller's, which is none": {authn.WithCaller(t.Context(), authn.Caller{}), nil},
	} {
		t.Run(name, func(t *testing.T) {
			if err := call(tt.ctx, conn, once); err != nil {
				t.Fatal(err)
			}
			if got := p.lastToken(); !slices.Equal(got, tt.want) {
				t.Errorf("a call sent %q, want %q", got, tt.want)
			}
			s := openStream(tt.ctx, t, conn)
			if err := s.RecvMsg(&wrapperspb.StringValue{}); err != nil {
				t.Fatal(err)
			}
			if got := p.lastToken(); !slices.Equal(got, tt.want) {
				t.Errorf("a stream sent %q, want %q", got, tt.want)
			}
		})
	}
}

func TestAConnectionWithNoForwardSendsNoCallersToken(t *testing.T) {
	p := serve(t, fine)
	conn, err := grpcclient.Dial(grpcclient.Config{Addr: p.addr, Plaintext: true, NoForward: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	caller := authn.WithCaller(t.Context(), authn.Caller{UserID: uuid.New(), Token: "callers"})
	if err := call(caller, conn, once); err != nil || len(p.lastToken()) > 0 {
		t.Errorf("a call sent %q, %v", p.lastToken(), err)
	}
	s := openStream(caller, t, conn)
	if err := s.RecvMsg(&wrapperspb.StringValue{}); err != nil || len(p.lastToken()) > 0 {
		t.Errorf("a stream sent %q, %v", p.lastToken(), err)
	}
	if err := call(grpcclient.WithToken(caller, "mine"), conn, once); err != nil ||
		!slices.Equal(p.lastToken(), []string{"Bearer mine"}) {
		t.Errorf("a token set by hand became %q, %v", p.lastToken(), err)
	}
}

func TestWithTokenLeavesTheFirstContextAlone(t *testing.T) {
	first := grpcclient.WithToken(t.Context(), "first")
	grpcclient.WithToken(first, "second")
	if md, _ := metadata.FromOutgoingContext(first); !slices.Equal(md.Get("authorization"), []string{"Bearer first"}) {
		t.Errorf("the first context carries %v", md)
	}
}

func TestAnInvalidConfigurationIsRefused(t *testing.T) {
	noPEM := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(noPEM, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	local := grpcclient.Config{Addr: "127.0.0.1:1", Plaintext: true}
	for name, tt := range map[string]struct {
		cfg        grpcclient.Config
		idempotent []string
		want       string
	}{
		"without an address": {grpcclient.Config{Plaintext: true}, nil, "no address"},
		"roots that are not there": {grpcclient.Config{Addr: "x:1", CAFile: noPEM + ".absent"}, nil,
			"TLS roots"},
		"roots that are none":                  {grpcclient.Config{Addr: "x:1", CAFile: noPEM}, nil, "no certificate"},
		"a method without its service":         {local, []string{"Again"}, "not a full method name"},
		"a service without its method":         {local, []string{"/test.v1.Echo/"}, "not a full method name"},
		"neither, which gRPC takes for every":  {local, []string{"/"}, "not a full method name"},
		"a good one beside one without method": {local, []string{again, "/test.v1.Echo"}, "not a full method name"},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := grpcclient.Dial(tt.cfg, tt.idempotent)
			if err == nil {
				_ = conn.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Dial = %v, want %q", err, tt.want)
			}
		})
	}
}

func TestAServerThatDoesNotAnswerIsUnavailable(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := lis.Addr().String()
	_ = lis.Close()
	conn, err := grpcclient.Dial(grpcclient.Config{Addr: addr, Plaintext: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := call(t.Context(), conn, once); !errs.Is(err, errs.KindUnavailable) {
		t.Errorf("error %v", err)
	}
}

func TestATLSClientDoesNotSpeakToAPlainServer(t *testing.T) {
	conn, err := grpcclient.Dial(grpcclient.Config{Addr: serve(t, fine).addr}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	err = call(grpcclient.WithToken(t.Context(), "secret"), conn, once)
	if !errs.Is(err, errs.KindUnavailable) || strings.Contains(err.Error(), "secret") {
		t.Errorf("error %v", err)
	}
}
