// Package grpcclient dials Purser's services the way they expect to be
// called: dns with round robin and health checking, retries of UNAVAILABLE
// on the methods that may be repeated, a time limit on every call, traces
// carried on, and statuses turned back into the typed errors of package errs.
package grpcclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health" // client-side health checking
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/config"
	"github.com/purserhq/purser/pkg/deadline"
	"github.com/purserhq/purser/pkg/errs/grpcerr"
)

// DefaultTimeout of a unary call whose context has no deadline.
const DefaultTimeout = 10 * time.Second

// How long a connection that failed waits for the next attempt, at first and at
// most, and how long an attempt may take.
const (
	reconnectFirst = 200 * time.Millisecond
	reconnectMost  = 3 * time.Second
	connectTimeout = 5 * time.Second
)

// maxMessage in either direction, in bytes; the servers' own bound.
const maxMessage = 4 << 20

// Config of a connection, read from the variables under its prefix.
type Config struct {
	// Addr of the service, host:port or a gRPC target.
	Addr string `env:"ADDR"`
	// Plaintext calls without TLS; it has to be asked for.
	Plaintext bool `env:"PLAINTEXT"`
	// CAFile is a PEM file of roots to trust instead of the system's.
	CAFile string `env:"TLS_CA"`
	// NoForward leaves the token of the caller that a call is made for out, as is
	// right for who calls in a name of their own.
	NoForward bool
}

// Check reports what is wrong with c, whose variables begin with prefix, such as
// PURSER_AUTH_. That there is no address is for the caller to judge.
func (c Config) Check(prefix string) error {
	var mistakes []error
	if c.Addr != "" && !strings.Contains(c.Addr, "://") {
		mistakes = append(mistakes, config.HostPort(prefix+"ADDR", c.Addr))
	}
	if c.Plaintext && c.CAFile != "" {
		mistakes = append(mistakes, fmt.Errorf("%sPLAINTEXT and %[1]sTLS_CA are both set; choose one", prefix))
	} else if _, err := transport(c); err != nil {
		mistakes = append(mistakes, fmt.Errorf("%sTLS_CA: %w", prefix, err))
	}
	return errors.Join(mistakes...)
}

// Dial prepares a connection; nothing is called yet. Its calls carry the
// token of the caller that their context is of (authn.CallerFrom), unless
// they have another one or c says NoForward. idempotent lists the full names
// of the methods that may be retried; more adds interceptors, which run
// inside those of this package, a resolver or the like. The connection is
// safe for concurrent use; the caller closes it.
func Dial(c Config, idempotent []string, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	if c.Addr == "" {
		return nil, errors.New("grpcclient: no address")
	}
	creds, err := transport(c)
	if err != nil {
		return nil, err
	}
	retries, err := serviceConfig(idempotent)
	if err != nil {
		return nil, err
	}
	target := c.Addr
	if !strings.Contains(target, "://") {
		target = "dns:///" + target
	}
	unary, stream := []grpc.UnaryClientInterceptor{typedErrors, timeout},
		[]grpc.StreamClientInterceptor{typedErrorsStream}
	if !c.NoForward {
		unary, stream = append(unary, forwardCaller), append(stream, forwardCallerStream)
	}
	conn, err := grpc.NewClient(target, append([]grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithDefaultServiceConfig(retries),
		grpc.WithDisableServiceConfig(),
		grpc.WithStatsHandler(otelgrpc.NewClientHandler()),
		grpc.WithChainUnaryInterceptor(unary...),
		grpc.WithChainStreamInterceptor(stream...),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
		// A replica that was away is back within some seconds; gRPC's own bound
		// of two minutes would leave it without callers for as long.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: reconnectFirst, Multiplier: 1.6, Jitter: 0.2,
				MaxDelay: reconnectMost},
			MinConnectTimeout: connectTimeout,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 20 * time.Second, Timeout: 5 * time.Second}),
	}, more...)...)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", c.Addr, err)
	}
	return conn, nil
}

func transport(c Config) (credentials.TransportCredentials, error) {
	if c.Plaintext {
		return insecure.NewCredentials(), nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS13}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("TLS roots: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("TLS roots: no certificate in %s", c.CAFile)
		}
	}
	return credentials.NewTLS(cfg), nil
}

// serviceConfig is gRPC's own JSON form (grpc/service_config.proto).
func serviceConfig(idempotent []string) (string, error) {
	type name struct {
		Service string `json:"service"`
		Method  string `json:"method"`
	}
	config := map[string]any{
		"loadBalancingConfig": []any{map[string]any{"round_robin": map[string]any{}}},
		"healthCheckConfig":   map[string]any{"serviceName": ""},
	}
	var names []name
	for _, full := range idempotent {
		service, method, ok := strings.Cut(strings.TrimPrefix(full, "/"), "/")
		if !ok || service == "" || method == "" { // gRPC would take an empty one for "every"
			return "", fmt.Errorf("grpcclient: %q is not a full method name", full)
		}
		names = append(names, name{service, method})
	}
	if len(names) > 0 {
		config["methodConfig"] = []any{map[string]any{
			"name": names,
			"retryPolicy": map[string]any{
				"maxAttempts": 4, "initialBackoff": "0.05s", "maxBackoff": "1s",
				"backoffMultiplier": 2, "retryableStatusCodes": []string{"UNAVAILABLE"},
			},
		}}
		config["retryThrottling"] = map[string]any{"maxTokens": 100, "tokenRatio": 0.1}
	}
	b, err := json.Marshal(config)
	if err != nil {
		return "", fmt.Errorf("service config: %w", err)
	}
	return string(b), nil
}

func typedErrors(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker,
	opts ...grpc.CallOption) error {
	return grpcerr.FromError(invoke(ctx, method, req, reply, cc, opts...))
}

func timeout(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker,
	opts ...grpc.CallOption) error {
	ctx, cancel := deadline.Default(ctx, DefaultTimeout)
	defer cancel()
	return invoke(ctx, method, req, reply, cc, opts...)
}

// forwardCaller sends the token of the caller that this call is made for. A
// token that was set by hand stays.
func forwardCaller(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker,
	opts ...grpc.CallOption) error {
	return invoke(withToken(ctx), method, req, reply, cc, opts...)
}

func forwardCallerStream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string,
	open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return open(withToken(ctx), desc, cc, method, opts...)
}

func typedErrorsStream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string,
	open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := open(ctx, desc, cc, method, opts...)
	if err != nil {
		return nil, grpcerr.FromError(err)
	}
	return typedStream{s}, nil
}

// typedStream gives the errors of a stream their kinds. io.EOF, which is how
// a stream ends well, stays as it is.
type typedStream struct{ grpc.ClientStream }

func (s typedStream) RecvMsg(m any) error { return grpcerr.FromError(s.ClientStream.RecvMsg(m)) }

func (s typedStream) SendMsg(m any) error { return grpcerr.FromError(s.ClientStream.SendMsg(m)) }

func (s typedStream) CloseSend() error { return grpcerr.FromError(s.ClientStream.CloseSend()) }

func (s typedStream) Header() (metadata.MD, error) {
	md, err := s.ClientStream.Header()
	return md, grpcerr.FromError(err)
}

func withToken(ctx context.Context) context.Context {
	token := authn.CallerFrom(ctx).Token
	if md, ok := metadata.FromOutgoingContext(ctx); token == "" || ok && len(md.Get("authorization")) > 0 {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

// WithToken returns a context whose calls carry this access token and no
// other, that of an earlier WithToken included.
func WithToken(ctx context.Context, token string) context.Context {
	md, _ := metadata.FromOutgoingContext(ctx) // a copy
	if md == nil {
		md = metadata.MD{}
	}
	md.Set("authorization", "Bearer "+token)
	return metadata.NewOutgoingContext(ctx, md)
}
