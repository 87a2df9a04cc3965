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

// Liveness is the name by which the health port is asked whether the process
// answers at all. Unlike the other names, it stays SERVING while it drains.
const Liveness = "liveness"

// probed is the health service of the health port.
type probed struct{ *health.Server }

// Check implements healthpb.HealthServer.
func (p probed) Check(ctx context.Context, req *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	if req.GetService() == Liveness {
		return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING}, nil
	}
	return p.Server.Check(ctx, req)
}

// Listen makes the server a part of a process: listening from now on, served by
// the group's Run, drained when it stops. It returns where it listens. On the
// health port nothing is served but the health service, without TLS; it knows
// Liveness too.
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
	probe := grpc.NewServer(grpc.MaxRecvMsgSize(4<<10), grpc.MaxConcurrentStreams(16))
	healthpb.RegisterHealthServer(probe, probed{s.health})
	g.Serve("health", func() error { return probe.Serve(probes) })
	g.Drain("health", func(context.Context) {
		<-drained // which it tells of
		probe.Stop()
	})
	return lis.Addr(), nil
}

func listen(ctx context.Context, g *lifecycle.Group, name, addr string) (net.Listener, error) {
	lis, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	g.Close(name+" listener", lis.Close)
	return lis, nil
}

// CheckHealth asks a process that serves with this configuration on this
// machine whether it is ready, on its health port where it has one. The error
// says what it is instead.
func CheckHealth(ctx context.Context, c Config) error {
	addr, creds := c.Addr, insecure.NewCredentials()
	switch {
	case c.HealthAddr != "":
		addr = c.HealthAddr
	case !c.Plaintext:
		// It is this machine's own process: the certificate names another host.
		creds = credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true}) //nolint:gosec // nothing is sent that anybody could want
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
