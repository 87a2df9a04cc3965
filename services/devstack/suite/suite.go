// Package suite runs auth, wallet and portfolio in one process, on embedded servers or on external
// ones. `make run` and the tests of the whole suite start it.
//
// It promises: a data folder is used by one suite at a time; everything started is stopped in reverse
// order, the database last; a failed start returns an error of one line, or a line for each setting that is wrong.
//
// Limits: for development; everything listens on 127.0.0.1, without TLS.
package suite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/purserhq/purser/pkg/deadline"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/testkit/port"
	authapp "github.com/purserhq/purser/services/auth/app"
	"github.com/purserhq/purser/services/devstack/progress"
	"github.com/purserhq/purser/services/devstack/traces"
	portfolioapp "github.com/purserhq/purser/services/portfolio/app"
	walletapp "github.com/purserhq/purser/services/wallet/app"
)

// stopTimeout bounds Stop.
const stopTimeout = 30 * time.Second

// Suite is the three services with their infrastructure.
type Suite struct {
	*Infrastructure
	Endpoints Endpoints

	log     *slog.Logger
	running []*service
	failed  chan error
}

// service is a running service.
type service struct {
	name string
	stop context.CancelFunc
	done chan struct{}
	err  error
}

// Start starts the suite and waits until every service is healthy. On an error it stops everything
// that it had started.
func Start(ctx context.Context, o Options) (*Suite, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Out == nil {
		o.Out = progress.New(io.Discard)
	}
	b, err := StartInfrastructure(ctx, o)
	s := &Suite{Infrastructure: b, log: o.Log, failed: make(chan error, len(services()))}
	if err == nil {
		err = s.startServices(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

func (s *Suite) startServices(ctx context.Context) error {
	for _, name := range services() {
		if err := s.startService(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// startService builds a service, runs it and waits until it is healthy.
func (s *Suite) startService(ctx context.Context, name string) error {
	return map[string]func(context.Context) error{"auth": s.startAuth, "wallet": s.startWallet,
		"portfolio": s.startPortfolio}[name](ctx)
}

func (s *Suite) startAuth(ctx context.Context) error {
	return s.start(ctx, "auth", func(log *slog.Logger) (runner, error) {
		cfg, err := authapp.Load(s.AuthEnviron())
		if err != nil {
			return nil, err
		}
		a, err := build(ctx, cfg, cfg.Database, authapp.Migrations(), authapp.New, log)
		if err != nil {
			return nil, err
		}
		s.Endpoints.Auth, s.Endpoints.AuthHTTP = a.Addr(), a.HTTPAddr()
		for _, ensure := range s.EnsureServiceAccounts() {
			if _, err := s.AuthCommand(ctx, ensure...); err != nil {
				return a, err
			}
		}
		return a, nil
	})
}

func (s *Suite) startWallet(ctx context.Context) error {
	return s.start(ctx, "wallet", func(log *slog.Logger) (runner, error) {
		cfg, err := walletapp.Load(s.WalletEnviron(s.Endpoints))
		if err != nil {
			return nil, err
		}
		a, err := build(ctx, cfg, cfg.Database, walletapp.Migrations(), walletapp.New, log)
		if err != nil {
			return nil, err
		}
		s.Endpoints.Wallet = a.Addr()
		return a, nil
	})
}

func (s *Suite) startPortfolio(ctx context.Context) error {
	return s.start(ctx, "portfolio", func(log *slog.Logger) (runner, error) {
		cfg, err := portfolioapp.Load(s.PortfolioEnviron(s.Endpoints))
		if err != nil {
			return nil, err
		}
		a, err := build(ctx, cfg, cfg.Database, portfolioapp.Migrations(), portfolioapp.New, log)
		if err != nil {
			return nil, err
		}
		s.Endpoints.Portfolio = a.Addr()
		return a, nil
	})
}

// AuthCommand runs a command of the auth service, such as "keys rotate", on the suite's database, and
// returns its output.
func (s *Suite) AuthCommand(ctx context.Context, args ...string) (string, error) {
	cfg, err := authapp.Load(s.AuthEnviron())
	if err != nil {
		return "", err
	}
	var out strings.Builder
	err = authapp.Command(ctx, cfg, s.log, args, &out)
	return out.String(), err
}

type runner interface {
	Addr() string
	Run(ctx context.Context) error
}

// build migrates a service's database and builds the service.
func build[C, A any](ctx context.Context, cfg C, db postgres.Config, m postgres.Migrations,
	make func(context.Context, C, *slog.Logger) (A, error), log *slog.Logger) (A, error) {
	if err := m.Command(ctx, db, "up", io.Discard, log); err != nil {
		var zero A
		return zero, err
	}
	return make(ctx, cfg, log)
}

func (s *Suite) start(ctx context.Context, name string, build func(*slog.Logger) (runner, error)) error {
	return s.step(name, func(progress.Note) (string, error) {
		a, err := build(s.log.With("service", name))
		if err != nil {
			return "", err
		}
		traces.Listens(a.Addr(), name)
		running, stop := context.WithCancel(traces.WithService(context.WithoutCancel(ctx), name))
		r := &service{name: name, stop: stop, done: make(chan struct{})}
		s.running = append(s.running, r)
		go func() {
			defer close(r.done)
			r.err = a.Run(running)
			if running.Err() == nil {
				s.failed <- errors.Join(fmt.Errorf("%s ended unexpectedly", name), r.err)
			}
		}()
		return a.Addr(), Healthy(ctx, a.Addr())
	})
}

// Healthy waits up to 15 seconds until the gRPC service at addr reports that it is serving.
func Healthy(ctx context.Context, addr string) error {
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("health of %s: %w", addr, err)
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	watch, err := healthpb.NewHealthClient(conn).Watch(ctx, &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true))
	if err != nil {
		return fmt.Errorf("health of %s: %w", addr, err)
	}
	for {
		state, err := watch.Recv()
		if err != nil {
			return fmt.Errorf("health of %s: %w", addr, err)
		}
		if state.GetStatus() == healthpb.HealthCheckResponse_SERVING {
			return nil
		}
	}
}

// Failed receives the error of each service that ended without being stopped.
func (s *Suite) Failed() <-chan error { return s.failed }

// StopService stops one service. It does nothing if the service is not running.
func (s *Suite) StopService(name string) error {
	for _, r := range s.running {
		if r.name == name {
			r.stop()
			<-r.done
			return r.err
		}
	}
	return nil
}

// RestartService starts a service that StopService stopped, at the same address.
func (s *Suite) RestartService(ctx context.Context, name string) error {
	for service, bound := range map[string]struct {
		addr string
		port *int
	}{
		"auth": {s.Endpoints.Auth, &s.opts.Ports.Auth}, "wallet": {s.Endpoints.Wallet, &s.opts.Ports.Wallet},
		"portfolio": {s.Endpoints.Portfolio, &s.opts.Ports.Portfolio},
	} {
		if service != name {
			continue
		}
		addr, err := netip.ParseAddrPort(bound.addr)
		if err != nil {
			return fmt.Errorf("restart %s: %w", name, err)
		}
		*bound.port = int(addr.Port())
		for try := 0; port.Used(ctx, *bound.port) && try < portTries; try++ { // by a program that is being started
			if err := deadline.Pause(ctx, portPause); err != nil {
				return fmt.Errorf("restart %s: %w", name, err)
			}
		}
	}
	s.running = slices.DeleteFunc(s.running, func(r *service) bool { return r.name == name })
	err := s.startService(ctx, name)
	slices.SortFunc(s.running, func(a, b *service) int { // Stop relies on the order
		return slices.Index(services(), a.name) - slices.Index(services(), b.name)
	})
	return err
}

// Stop stops the services, callers before the services that they call, then the embedded servers.
func (s *Suite) Stop() error {
	var failures []error
	for i := len(s.running) - 1; i >= 0; i-- {
		r := s.running[i]
		failures = append(failures, s.step("stop "+r.name, func(progress.Note) (string, error) {
			r.stop()
			<-r.done
			return "", r.err
		}))
	}
	s.running = nil
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	return errors.Join(append(failures, s.Close(ctx))...)
}
