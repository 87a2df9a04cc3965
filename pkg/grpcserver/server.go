// Package grpcserver builds a gRPC server whose methods are closed unless their
// contract opens them. It promises: a server with a registered method that has no
// access rule does not start; every call passes the same named layers in the same
// order (see Layers); every error is answered as a status with a reason and, for
// invalid input, the field and the rule; the cause of an internal error is
// logged and never sent to the caller.
//
// Traces and metrics are made by a stats handler outside of the layers, which ignores
// health checks. Every other call is measured once, with the code that its caller got.
//
// Limits: the layers don't decide who owns a row; a service's queries have to be
// limited to the owner. A call that gRPC itself refuses (a message that is too large) or
// of a method that doesn't exist doesn't reach the layers: it is in the metrics, but not
// in the log; all unknown methods are one. What is no call of gRPC
// (another content type or HTTP method, headers that can't be decoded), and what a client
// sends against the limits that it was told (streams, the connection's headers), is in
// neither: gRPC refuses it before anybody is asked.
package grpcserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/protobuf/proto"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/config"
)

// MaxMessage is the largest message in either direction, in bytes.
const MaxMessage = 4 << 20

// Config of a server, read from PURSER_GRPC_*.
type Config struct {
	// Addr to listen on, host:port; with port 0 on a free port.
	Addr string `env:"ADDR" envDefault:"127.0.0.1:0"`
	// HealthAddr is a second address, host:port, that serves only the health
	// service, without TLS, for probes; none when empty.
	HealthAddr string `env:"HEALTH_ADDR"`
	// TLSCert and TLSKey are paths of PEM files, which are read again when they change. Only
	// TLS 1.3 is spoken.
	TLSCert string `env:"TLS_CERT"`
	TLSKey  string `env:"TLS_KEY"`
	// TLSClientCA is a PEM file of the authorities of clients. With it a client needs a
	// certificate of theirs with a SPIFFE id that is in TLSClientIDs: exact ids, or ones that
	// end with /*, separated by commas. The health port is open as without it.
	TLSClientCA  string   `env:"TLS_CLIENT_CA"`
	TLSClientIDs []string `env:"TLS_CLIENT_IDS"`
	// Plaintext serves without TLS. It is needed when there is no TLSCert, so that
	// TLS isn't left out by mistake.
	Plaintext bool `env:"PLAINTEXT"`
	// Reflection serves gRPC reflection, by which grpcurl lists the services.
	Reflection bool `env:"REFLECTION"`
	// MinTimeout is the least remaining time of a unary call; one with less is
	// refused at once.
	MinTimeout time.Duration `env:"MIN_TIMEOUT" envDefault:"5ms"`
	// MaxTimeout bounds a unary call, also when the caller sets no deadline.
	MaxTimeout time.Duration `env:"MAX_TIMEOUT" envDefault:"30s"`
	// RatePerSecond and Burst limit the calls of one identity on one replica: of a
	// user, or of the peer's address for public methods.
	RatePerSecond float64 `env:"RATE_PER_SECOND" envDefault:"200"`
	Burst         int     `env:"BURST" envDefault:"400"`
}

// Validate returns all that is wrong with c, joined, each error naming the variable.
func (c Config) Validate() error {
	invalid := []error{c.validateTLS()}
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

// Check returns all that is wrong with the files that c names, joined: ones that can't be
// read or are invalid, and a certificate that has expired.
func (c Config) Check() error { return c.checkFiles() }

// Rule says who may call a method: anybody, any caller with a valid token, or
// those with a permission. Exactly one field is set. It is an alias of an unnamed
// struct so that it is the same type as access.Rule of the contracts' module,
// which this module doesn't import.
type Rule = struct {
	Public        bool
	Authenticated bool
	Permission    string
}

// Verifier authenticates a bearer token; *authn.Verifier is one.
type Verifier interface {
	Verify(ctx context.Context, token string) (authn.Caller, error)
}

// Deps are what a server needs besides its configuration. Rules, Verifier and
// Log are required.
type Deps struct {
	// Rules returns a method's rule, by its full name such as "/pkg.Service/Method",
	// and false when it has none. It is asked once for each method.
	Rules    func(fullMethod string) (Rule, bool)
	Verifier Verifier
	Log      *slog.Logger
	// Translate gives an error without a kind one of package errs, such as
	// Unavailable to that of a database that doesn't answer. It returns other errors
	// as they are.
	Translate func(err error) error
	// Starting, if set, returns the error of every call until the service is ready, and nil
	// from then on. Until then the health is NOT_SERVING; call Server.Ready when it changes.
	Starting func() error
	// Context, if set, returns the context for a call's handler: ctx with values
	// that the service's own code reads.
	Context func(context.Context) context.Context
}

// Server is a gRPC server with the layers. Register services on it, then call
// Listen or Serve.
type Server struct {
	*grpc.Server
	cfg   Config
	rules func(string) (Rule, bool)
	// health is that of the server's own port, probes that of the health port. They are
	// the same one where there is no health port.
	health, probes *health.Server
	checks         *checks
	// endStreams ends the contexts of all streams, so that callers open them anew on
	// another replica.
	endStreams context.CancelFunc
	handover   handover
	open       *inFlight
	log        *slog.Logger
	starting   func() error
	// publishing is held while the health is set.
	publishing sync.Mutex
}

// New builds a server; it does not listen yet.
func New(cfg Config, d Deps) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if d.Rules == nil || d.Verifier == nil || d.Log == nil {
		return nil, errors.New("grpcserver: rules, verifier and log are required")
	}
	creds, err := transport(cfg, d.Log)
	if err != nil {
		return nil, err
	}
	validator, err := newValidator()
	if err != nil {
		return nil, err
	}
	checks := &checks{validator: validator}
	layers := chain(cfg, d, checks)
	serving, endStreams := context.WithCancel(context.Background())
	var s *Server
	open := &inFlight{}
	registered := newMethods(func() *grpc.Server { return s.Server }, d.Rules)
	measured := newMeasurements(registered)
	options := []grpc.ServerOption{
		grpc.Creds(creds),
		grpc.ForceServerCodecV2(newCodec()),
		grpc.StatsHandler(measured),
		grpc.UnknownServiceHandler(registered.refuse),
		grpc.UnaryInterceptor(unary(layers, registered.rule, open)),
		grpc.StreamInterceptor(stream(serving, layers, registered.rule, open)),
		grpc.MaxRecvMsgSize(MaxMessage), grpc.MaxSendMsgSize(MaxMessage),
		grpc.MaxConcurrentStreams(1000), grpc.MaxHeaderListSize(transportHeaders),
		grpc.InTapHandle(refuseEarly(d.Log, measured)),
		grpc.ConnectionTimeout(10 * time.Second),
		// Callers may ask for a sign of life every 10 s, the least that gRPC's clients allow. Half
		// of it is allowed here, for the network may bring two pings closer together.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second,
			PermitWithoutStream: true}),
	}
	s = &Server{
		starting:   d.Starting,
		checks:     checks,
		cfg:        cfg,
		rules:      d.Rules,
		health:     health.NewServer(),
		endStreams: endStreams,
		open:       open,
		log:        d.Log,
		// Workers keep their stacks, which grow with the layers' calls.
		Server: grpc.NewServer(append(slices.Clone(options), connectionAge(maxConnectionAge),
			grpc.NumStreamWorkers(uint32(8*runtime.GOMAXPROCS(0))))...),
		handover: handover{options: options},
	}
	s.probes = s.health
	if cfg.HealthAddr != "" {
		s.probes = health.NewServer()
	}
	healthpb.RegisterHealthServer(s, s.health)
	if cfg.Reflection {
		reflection.Register(s)
	}
	return s, nil
}

// CheckMessages has check look at every message that is received, beside the rules
// of its contract, so that a caller learns of all mistakes at once. check returns
// errs.Invalid for a message that breaks a rule of the service's own, and nil for
// one that it doesn't know; it must be fast and read nothing but the message. Call
// it before Serve, once.
func (s *Server) CheckMessages(check func(proto.Message) error) { s.checks.own.Store(&check) }

// Check returns an error that names every registered method without an access
// rule, or whose rule doesn't set exactly one field. gRPC's own health and
// reflection services are exempt.
func (s *Server) Check() error {
	var open []string
	for name, info := range s.GetServiceInfo() {
		for _, m := range info.Methods {
			full := "/" + name + "/" + m.Name
			if rule, ok := s.rules(full); (!ok || !hasOneField(rule)) && !isInfrastructure(full) {
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

// hasOneField reports whether exactly one field of a rule is set.
func hasOneField(r Rule) bool {
	return r == Rule{Public: true} || r == Rule{Authenticated: true} ||
		r == Rule{Permission: r.Permission} && r.Permission != ""
}

// isInfrastructure reports whether a method is one of gRPC's own health and
// reflection services, which have no access rule and answer anybody.
func isInfrastructure(fullMethod string) bool {
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
