package grpcserver_test

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/purserhq/purser/pkg/grpcserver"
	"github.com/purserhq/purser/pkg/lifecycle"
	"github.com/purserhq/purser/pkg/testkit"
)

func TestTheHealthPortAnswersUntilTheServerIsDrained(t *testing.T) {
	cfg := plaintext()
	cfg.Addr, cfg.HealthAddr = "127.0.0.1:0", freeAddr(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	s, err := grpcserver.New(cfg, grpcserver.Deps{Rules: rules, Verifier: known(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	e := blocked(entered, leave)
	s.RegisterService(e.desc(), e)
	g := lifecycle.New(lifecycle.Config{Drain: 10 * time.Second}, slog.New(slog.DiscardHandler))
	addr, err := s.Listen(t.Context(), g)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	testkit.Eventually(t, 5*time.Second, func() bool { return grpcserver.CheckHealth(t.Context(), cfg) == nil })
	withoutPort := cfg
	withoutPort.Addr, withoutPort.HealthAddr = addr.String(), ""
	if err := grpcserver.CheckHealth(t.Context(), withoutPort); err != nil {
		t.Errorf("asked on its own port it is %v", err)
	}
	if code := echoOn(t, cfg.HealthAddr); code != codes.Unimplemented {
		t.Errorf("the health port answers other calls with %s", code)
	}

	if _, err := asked(t, addr.String(), grpcserver.Liveness); status.Code(err) != codes.NotFound {
		t.Errorf("the server's own port knows the probes' name: %v", err)
	}

	answered := make(chan codes.Code, 1)
	go func() { answered <- echoOn(t, addr.String()) }()
	<-entered
	stop()
	testkit.Eventually(t, 5*time.Second, func() bool {
		err := grpcserver.CheckHealth(t.Context(), cfg)
		return err != nil && strings.Contains(err.Error(), "NOT_SERVING")
	})
	if status, err := asked(t, cfg.HealthAddr, grpcserver.Liveness); err != nil ||
		status != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("a server that drains is not alive: %s, %v", status, err)
	}
	close(leave)
	if code := <-answered; code != codes.OK {
		t.Errorf("the call under way was answered %s", code)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := grpcserver.CheckHealth(t.Context(), cfg); err == nil {
		t.Error("a server that has ended is healthy")
	}
}

func TestAHealthCheckNeedsToKnowThePort(t *testing.T) {
	cfg := plaintext()
	cfg.Addr = "127.0.0.1:0"
	if err := grpcserver.CheckHealth(t.Context(), cfg); err == nil ||
		!strings.Contains(err.Error(), "PURSER_GRPC_HEALTH_ADDR") {
		t.Errorf("without a fixed port: %v", err)
	}
}

// asked is what a health service says of a name.
func asked(t *testing.T, addr, name string) (healthpb.HealthCheckResponse_ServingStatus, error) {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	resp, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{Service: name})
	return resp.GetStatus(), err
}

// echoOn calls the method that is open to all.
func echoOn(t *testing.T, addr string) codes.Code {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Error(err)
		return codes.Unknown
	}
	defer func() { _ = conn.Close() }()
	return status.Code(conn.Invoke(t.Context(), open, newNote("x"), dynamicpb.NewMessage(note())))
}

func freeAddr(t *testing.T) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lis.Close() }()
	return lis.Addr().String()
}
