// Package grpcclient connects to Purser's services: over all addresses of a DNS
// name, with round robin; with retries of UNAVAILABLE for the methods that may be
// repeated, a timeout on every unary call, traces, and statuses converted back into
// the typed errors of package errs.
//
// Promise: a rolling restart of a service behind the name fails no call, if each
// replica goes on serving for 10 s after it has left DNS. A replica that hangs, so that
// its connection stays and nothing answers, costs the calls of about a second, while
// there are others; those that wait on it fail with the connection after 13 s.
//
// Limits: gRPC's client-side health checks are off. A server of package grpcserver
// that stops asks its callers to connect again before it ends, while one that said
// NOT_SERVING would be dropped at once, before DNS has another.
package grpcclient

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc/filters"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/config"
	"github.com/purserhq/purser/pkg/deadline"
	"github.com/purserhq/purser/pkg/errs/grpcerr"
)

// DefaultTimeout of a unary call whose context has no deadline, unless Config says another.
const DefaultTimeout = 10 * time.Second

const (
	// The delay before a failed connection is tried again, growing from the first
	// to the second.
	minReconnectDelay, maxReconnectDelay = 200 * time.Millisecond, 3 * time.Second
	// connectTimeout bounds one attempt to connect.
	connectTimeout = 5 * time.Second
	// A connection on which nothing came for keepaliveTime is asked for a sign of life, and
	// closed keepaliveTimeout later. gRPC allows no less than 10 s.
	keepaliveTime, keepaliveTimeout = 10 * time.Second, 3 * time.Second
)

// maxMessage is the largest message in either direction, in bytes, as the servers
// have it.
const maxMessage = 4 << 20

// Config of a connection, read from the variables under its prefix.
type Config struct {
	// Addr of the service, host:port or a gRPC target.
	Addr string `env:"ADDR"`
	// Plaintext calls without TLS.
	Plaintext bool `env:"PLAINTEXT"`
	// CAFile is a PEM file of roots to trust instead of the system's. It is read again when it
	// changes, and so are TLSCert and TLSKey.
	CAFile string `env:"TLS_CA"`
	// TLSCert and TLSKey are PEM files of the client's own certificate, for servers that ask
	// for one.
	TLSCert string `env:"TLS_CERT"`
	TLSKey  string `env:"TLS_KEY"`
	// TLSServerID is the SPIFFE id that the server's certificate must have, in place of the
	// name in Addr. It needs CAFile.
	TLSServerID string `env:"TLS_SERVER_ID"`
	// NoForward doesn't send the token of the caller in a call's context; for
	// clients that have credentials of their own.
	NoForward bool
	// Timeout of a unary call whose context has no deadline; DefaultTimeout if it is 0.
	Timeout time.Duration
	// Log is told of files of TLS that change or can't be used; slog.Default() if it is nil.
	Log *slog.Logger
}

// Check returns all that is wrong with c, joined, each error naming the variable,
// which begins with prefix, such as PURSER_AUTH_. A missing address is no error
// here.
func (c Config) Check(prefix string) error {
	var invalid []error
	if c.Addr != "" && !strings.Contains(c.Addr, "://") {
		invalid = append(invalid, config.HostPort(prefix+"ADDR", c.Addr))
	}
	invalid = append(invalid, c.checkTLS(prefix))
	return errors.Join(invalid...)
}

// Dial prepares a connection; nothing is called yet. Its calls carry the token of
// the caller in their context (authn.CallerFrom), unless they have an
// authorization header already or c says NoForward. idempotent lists the full
// names of the methods that may be retried. more are further options, such as
// interceptors, which run inside of those of this package. The connection is safe
// for concurrent use; the caller closes it.
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
	unary, stream := []grpc.UnaryClientInterceptor{typedErrors, timeout(cmp.Or(c.Timeout, DefaultTimeout))},
		[]grpc.StreamClientInterceptor{typedErrorsStream}
	if !c.NoForward {
		unary, stream = append(unary, forwardCaller), append(stream, forwardCallerStream)
	}
	conn, err := grpc.NewClient(target, append([]grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithResolvers(refreshing{resolver.Get("dns")}),
		grpc.WithDefaultServiceConfig(retries),
		grpc.WithDisableServiceConfig(),
		grpc.WithStatsHandler(otelgrpc.NewClientHandler(otelgrpc.WithFilter(filters.Not(filters.HealthCheck())))),
		grpc.WithChainUnaryInterceptor(unary...),
		grpc.WithChainStreamInterceptor(stream...),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
		// A replica that restarts is back within seconds. gRPC's own maximum of two
		// minutes would leave it without callers for as long.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: minReconnectDelay, Multiplier: 1.6, Jitter: 0.2,
				MaxDelay: maxReconnectDelay},
			MinConnectTimeout: connectTimeout,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
	}, more...)...)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", c.Addr, err)
	}
	return conn, nil
}

// serviceConfig returns the service config of a connection in gRPC's JSON form
// (grpc/service_config.proto).
func serviceConfig(idempotent []string) (string, error) {
	type name struct {
		Service string `json:"service"`
		Method  string `json:"method"`
	}
	config := map[string]any{
		"loadBalancingConfig": []any{map[string]any{policyName: map[string]any{}}},
	}
	var names []name
	for _, full := range idempotent {
		service, method, ok := strings.Cut(strings.TrimPrefix(full, "/"), "/")
		if !ok || service == "" || method == "" { // to gRPC an empty one means all methods
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

func timeout(d time.Duration) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker,
		opts ...grpc.CallOption) error {
		ctx, cancel := deadline.Default(ctx, d)
		defer cancel()
		return invoke(markUnary(ctx), method, req, reply, cc, opts...)
	}
}

// forwardCaller sends the token of the caller in ctx, unless the call has an
// authorization header.
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

// typedStream converts the errors of a stream. io.EOF, by which a stream ends
// without an error, stays as it is.
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
	if token == "" { // first, for the metadata is copied
		return ctx
	}
	if md, ok := metadata.FromOutgoingContext(ctx); ok && len(md.Get("authorization")) > 0 {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

// WithToken returns a context whose calls carry this access token, in place of
// the caller's and of that of an earlier WithToken.
func WithToken(ctx context.Context, token string) context.Context {
	md, _ := metadata.FromOutgoingContext(ctx) // a copy
	if md == nil {
		md = metadata.MD{}
	}
	md.Set("authorization", "Bearer "+token)
	return metadata.NewOutgoingContext(ctx, md)
}
