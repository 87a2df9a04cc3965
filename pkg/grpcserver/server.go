// Package grpcserver builds a gRPC server on which nothing is open by
// accident. It promises: every registered method has an access rule or the
// server does not start; every call passes the same named layers in the same
// order (see Layers); every error leaves as a status that names a reason and,
// for bad input, the field and the rule; an internal error's cause goes to
// the log and never to the caller.
//
// Telemetry is a stats handler outside the layers; health checks are left
// out of it.
//
// Limits: who owns a row is not decided here: every store query takes the
// owner. A call that gRPC itself refuses, for its method is unknown or its
// message too large or no protobuf, doesn't reach the layers and has no log
// line; it shows in the metrics.
package grpcserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"runtime"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc/filters"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/config"
)

// maxHeaders of a call, in bytes; a token has 8 KiB at most.
const maxHeaders = 64 << 10

// MaxMessage is the largest message in either direction, in bytes.
const MaxMessage = 4 << 20

// Config of a server, read from PURSER_GRPC_*.
type Config struct {
	// Addr to listen on, host:port; port 0 takes a free one.
	Addr string `env:"ADDR" envDefault:"127.0.0.1:0"`
	// HealthAddr is where the health service is also served, for probes, without
	// TLS and alone; nowhere when empty.
	HealthAddr string `env:"HEALTH_ADDR"`
	// TLSCert and TLSKey are PEM files. TLS 1.3 only.
	TLSCert string `env:"TLS_CERT"`
	TLSKey  string `env:"TLS_KEY"`
	// Plaintext serves without TLS; it has to be asked for.
	Plaintext bool `env:"PLAINTEXT"`
	// Reflection lets grpcurl list and describe the services.
	Reflection bool `env:"REFLECTION"`
	// MinTimeout: a call with less time left is refused at once.
	MinTimeout time.Duration `env:"MIN_TIMEOUT" envDefault:"5ms"`
	// MaxTimeout of a unary call, also when the caller sets none.
	MaxTimeout time.Duration `env:"MAX_TIMEOUT" envDefault:"30s"`
	// RatePerSecond and Burst of calls of one identity on one replica: a
	// user, or the peer's address for public methods.
	RatePerSecond float64 `env:"RATE_PER_SECOND" envDefault:"200"`
	Burst         int     `env:"BURST" envDefault:"400"`
}

// Validate returns all that is wrong with c, joined, each error naming the variable.
func (c Config) Validate() error {
	var invalid []error
	switch {
	case c.Plaintext && (c.TLSCert != "" || c.TLSKey != ""):
		invalid = append(invalid, errors.New(
			"PURSER_GRPC_PLAINTEXT and PURSER_GRPC_TLS_CERT are both set; choose one"))
	case !c.Plaintext && (c.TLSCert == "" || c.TLSKey == ""):
		invalid = append(invalid, errors.New(
			"PURSER_GRPC_TLS_CERT and PURSER_GRPC_TLS_KEY are needed (or PURSER_GRPC_PLAINTEXT=true, by name)"))
	}
	if math.IsNaN(c.RatePerSecond) || math.IsInf(c.RatePerSecond, 0) || c.RatePerSecond <= 0 || c.Burst <= 0 {
		invalid = append(invalid, errors.New("PURSER_GRPC_RATE_PER_SECOND and PURSER_GRPC_BURST must be above 0"))
	}
	invalid = append(invalid, config.HostPort("PURSER_GRPC_ADDR", c.Addr),
		config.HostPort("PURSER_GRPC_HEALTH_ADDR", c.HealthAddr))
	if c.MinTimeout < 0 || c.MaxTimeout <= c.MinTimeout {
		invalid = append(invalid, errors.New("PURSER_GRPC_MAX_TIMEOUT must be above PURSER_GRPC_MIN_TIMEOUT"))
	}
	return errors.Join(invalid...)
}

// Check reports what is wrong with the files that c names.
func (c Config) Check() error {
	if c.TLSCert == "" || c.TLSKey == "" {
		return nil // Validate reports it where TLS is needed
	}
	_, err := transport(c)
	return err
}

// Rule says who may call a method; exactly one field is set. It is an alias
// of an unnamed struct so that it is the same type as the one that the
// contracts' module reads off the descriptors, without importing it.
type Rule = struct {
	Public        bool
	Authenticated bool
	Permission    string
}

// Verifier authenticates a bearer token; *authn.Verifier is one.
type Verifier interface {
	Verify(ctx context.Context, token string) (authn.Caller, error)
}

// Deps is what a server needs besides its configuration; all are required
// but Translate.
type Deps struct {
	// Rules returns a method's rule, false when it has none.
	Rules    func(fullMethod string) (Rule, bool)
	Verifier Verifier
	Log      *slog.Logger
	// Translate turns errors of lower layers (a database that is away) into
	// package errs' kinds; it returns err itself when it has no opinion.
	Translate func(err error) error
	// Context adds to the context of every call that gets as far as its
	// handler what the service's own code looks for there; nil for nothing.
	Context func(context.Context) context.Context
}

// Server is a gRPC server with Purser's layers. Register services on it, then
// call Serve.
type Server struct {
	*grpc.Server
	cfg    Config
	health *health.Server
	rules  func(string) (Rule, bool)
	// endStreams ends the context of every stream, so that it can be taken up
	// on another replica.
	endStreams context.CancelFunc
}

// New builds a server; it does not listen yet.
func New(cfg Config, d Deps) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if d.Rules == nil || d.Verifier == nil || d.Log == nil {
		return nil, errors.New("grpcserver: rules, verifier and log are required")
	}
	creds, err := transport(cfg)
	if err != nil {
		return nil, err
	}
	validator, err := newValidator()
	if err != nil {
		return nil, err
	}
	layers := chain(cfg, d, validator)
	serving, endStreams := context.WithCancel(context.Background())
	s := &Server{
		cfg:        cfg,
		rules:      d.Rules,
		health:     health.NewServer(),
		endStreams: endStreams,
		Server: grpc.NewServer(
			grpc.Creds(creds),
			grpc.StatsHandler(otelgrpc.NewServerHandler(otelgrpc.WithFilter(filters.Not(filters.HealthCheck())))),
			grpc.UnaryInterceptor(unary(layers, d.Rules)),
			grpc.StreamInterceptor(stream(serving, layers, d.Rules)),
			// which keep their stacks, that a call through the layers makes grow
			grpc.NumStreamWorkers(uint32(8*runtime.GOMAXPROCS(0))),
			grpc.MaxRecvMsgSize(MaxMessage), grpc.MaxSendMsgSize(MaxMessage),
			grpc.MaxConcurrentStreams(1000), grpc.MaxHeaderListSize(maxHeaders),
			grpc.ConnectionTimeout(10*time.Second),
			grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second,
				PermitWithoutStream: true}),
			grpc.KeepaliveParams(keepalive.ServerParameters{
				MaxConnectionAge: 5 * time.Minute, MaxConnectionAgeGrace: 30 * time.Second,
				Time: 30 * time.Second, Timeout: 10 * time.Second,
			}),
		),
	}
	healthpb.RegisterHealthServer(s.Server, s.health)
	if cfg.Reflection {
		reflection.Register(s.Server)
	}
	return s, nil
}

func transport(cfg Config) (credentials.TransportCredentials, error) {
	if cfg.Plaintext {
		return insecure.NewCredentials(), nil
	}
	cert, err := tls.LoadX509KeyPair(cfg.TLSCert, cfg.TLSKey)
	if err != nil {
		return nil, fmt.Errorf("TLS certificate (PURSER_GRPC_TLS_CERT, PURSER_GRPC_TLS_KEY): %w", err)
	}
	return credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13}), nil
}

// Check returns an error that names every registered method without an
// access rule, or with one that isn't exactly one of a Rule's fields. gRPC's
// own health and reflection services are exempt by name.
func (s *Server) Check() error {
	var open []string
	for name, info := range s.GetServiceInfo() {
		for _, m := range info.Methods {
			full := "/" + name + "/" + m.Name
			if rule, ok := s.rules(full); (!ok || !plain(rule)) && !exempt(full) {
				open = append(open, full)
			}
		}
	}
	if len(open) > 0 {
		slices.Sort(open)
		return fmt.Errorf("methods without an access rule (option purser.access.v1.rule): %s",
			strings.Join(open, ", "))
	}
	return nil
}

// plain reports whether exactly one field of a rule is set.
func plain(r Rule) bool {
	return r == Rule{Public: true} || r == Rule{Authenticated: true} ||
		r == Rule{Permission: r.Permission} && r.Permission != ""
}

// exempt lists gRPC's own services, which carry no option of ours and answer
// anybody.
func exempt(fullMethod string) bool {
	for _, service := range []string{
		"/grpc.health.v1.Health/",
		"/grpc.reflection.v1.ServerReflection/",
		"/grpc.reflection.v1alpha.ServerReflection/",
	} {
		if strings.HasPrefix(fullMethod, service) {
			return true
		}
	}
	return false
}

// Serve answers calls on lis until Shutdown. It refuses to when Check does.
func (s *Server) Serve(lis net.Listener) error {
	if err := s.Check(); err != nil {
		return err
	}
	for name := range s.GetServiceInfo() {
		s.health.SetServingStatus(name, healthpb.HealthCheckResponse_SERVING)
	}
	s.health.SetServingStatus("", healthpb.HealthCheckResponse_SERVING)
	if err := s.Server.Serve(lis); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// NotReady makes the health service answer NOT_SERVING, so that no new calls
// are sent here; calls that come are still answered.
func (s *Server) NotReady() { s.health.Shutdown() }

// Shutdown ends the streams' contexts, waits for the calls under way, and cuts
// off those that outlast ctx. It doesn't wait for a handler that goes on after
// that.
func (s *Server) Shutdown(ctx context.Context) {
	s.NotReady()
	s.endStreams()
	done := make(chan struct{})
	go func() {
		s.GracefulStop()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.Stop()
	}
}
