package grpcserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/purserhq/purser/pkg/lifecycle"
)

// Liveness is the service name by which a probe of the health port checks that
// the process answers at all. Unlike other names it stays SERVING while the
// server drains.
const Liveness = "liveness"

// healthPort is the health service of the health port.
type healthPort struct{ *health.Server }

// Check implements healthpb.HealthServer.
func (p healthPort) Check(ctx context.Context, req *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse,
	error) {
	if req.GetService() == Liveness {
		return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING}, nil
	}
	return p.Server.Check(ctx, req)
}

// Listen adds the server to a process: it listens at once, the group's Run serves
// it and drains it when it stops. It returns the address. The health port, if
// configured, serves the health service alone, without TLS; it also answers for
// Liveness.
func (s *Server) Listen(ctx context.Context, g *lifecycle.Group) (net.Addr, error) {
	lis, err := listen(ctx, g, "grpc", s.cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("PURSER_GRPC_ADDR: %w", err)
	}
	g.OnNotReady(s.NotReady)
	g.Serve("grpc", func() error { return s.Serve(lis) })
	drained := make(chan struct{})
	g.Drain("grpc", func(ctx context.Context) {
		defer close(drained)
		s.Shutdown(ctx)
	})
	if s.cfg.HealthAddr == "" {
		return lis.Addr(), nil
	}
	probes, err := listen(ctx, g, "health", s.cfg.HealthAddr)
	if err != nil {
		return nil, fmt.Errorf("PURSER_GRPC_HEALTH_ADDR: %w", err)
	}
	probe := grpc.NewServer(grpc.MaxRecvMsgSize(4<<10), grpc.MaxConcurrentStreams(16),
		grpc.MaxHeaderListSize(MaxHeaders))
	healthpb.RegisterHealthServer(probe, healthPort{s.probes})
	g.Serve("health", func() error { return probe.Serve(probes) })
	g.Drain("health", func(context.Context) {
		<-drained // until then probes are answered
		probe.Stop()
	})
	return lis.Addr(), nil
}

// Ready sets the health to SERVING if Deps.Starting has no error any more, else to
// NOT_SERVING. It does nothing once the server drains. Serve calls it.
func (s *Server) Ready() {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	state := healthpb.HealthCheckResponse_SERVING
	if s.starting != nil && s.starting() != nil {
		state = healthpb.HealthCheckResponse_NOT_SERVING
	}
	for _, h := range []*health.Server{s.health, s.probes} {
		h.SetServingStatus("", state)
		for name := range s.GetServiceInfo() {
			h.SetServingStatus(name, state)
		}
	}
}

func listen(ctx context.Context, g *lifecycle.Group, name, addr string) (net.Listener, error) {
	lis, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	g.Close(name+" listener", lis.Close)
	return lis, nil
}

// CheckHealth returns nil if the process that serves with this configuration on
// this machine is ready. It calls the health port if there is one, else the main
// port.
func CheckHealth(ctx context.Context, c Config) error {
	addr, creds := c.Addr, insecure.NewCredentials()
	switch {
	case c.HealthAddr != "":
		addr = c.HealthAddr
	case c.TLSClientCA != "":
		return errors.New("set PURSER_GRPC_HEALTH_ADDR: the main port asks for a certificate of the client")
	case !c.Plaintext:
		// The process is on this machine; its certificate is for another name.
		anyName := &tls.Config{MinVersion: tls.VersionTLS13}
		anyName.InsecureSkipVerify = true // no secret is sent
		creds = credentials.NewTLS(anyName)
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil || port == "0" {
		return errors.New("set PURSER_GRPC_HEALTH_ADDR or PURSER_GRPC_ADDR to a fixed port")
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	conn, err := grpc.NewClient("passthrough:///"+net.JoinHostPort(host, port), grpc.WithTransportCredentials(creds))
	if err != nil {
		return fmt.Errorf("health check: %w", err)
	}
	defer func() { _ = conn.Close() }()
	resp, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
	if err != nil {
		return fmt.Errorf("health check: %w", err)
	}
	if resp.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		return fmt.Errorf("health check: %s", resp.GetStatus())
	}
	return nil
}
