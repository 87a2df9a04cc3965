package app_test

import (
	"context"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/faultproxy"
	"github.com/purserhq/purser/pkg/testkit/versus"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/services/auth/migrations"
)

func TestIntrospectionReadsTheDatabaseOnlyWhileTheFeedIsStale(t *testing.T) {
	t.Parallel() // it mostly waits
	db := testkit.Postgres(t, migrations.FS)
	proxy := testkit.Proxy(t, db.URL)
	s := startOn(t, db, proxy.Rewrite(db.URL))
	s.register(t, "ada@example.com")
	token := s.login(t, "ada@example.com").GetAccessToken()
	ada := grpcclient.WithToken(t.Context(), token)
	introspect := func() (*authv1.IntrospectResponse, error) {
		ctx, cancel := context.WithTimeout(ada, 2*time.Second)
		defer cancel()
		return s.tokens.Introspect(ctx, &authv1.IntrospectRequest{Token: token})
	}
	testkit.Eventually(t, time.Minute, func() bool {
		seen,
			err := introspect()
		return err == nil && seen.GetActive()
	})
	proxy.ToServer(faultproxy.Fault{Blackhole: true})
	proxy.Disconnect()
	if seen, err := introspect(); err != nil || !seen.GetActive() {
		t.Errorf("within what is known: %v, %v", seen, err)
	}
	// it can't tell, and doesn't say that it can
	testkit.Eventually(t, time.Minute, func() bool { _, err := introspect(); return err != nil })
	proxy.Heal()
	testkit.Eventually(t, time.Minute, func() bool {
		seen,
			err := introspect()
		return err == nil && seen.GetActive()
	})
}

// BenchmarkIntrospect is beside an empty call of a bare gRPC server: at least
// 60 % of its rate, so 1/0.6 of its time.
func BenchmarkIntrospect(b *testing.B) {
	s := start(b, "PURSER_GRPC_RATE_PER_SECOND=1000000", "PURSER_GRPC_BURST=1000000")
	s.register(b, "ada@example.com")
	token := s.login(b, "ada@example.com").GetAccessToken()
	ada := grpcclient.WithToken(context.Background(), token)
	request := &authv1.IntrospectRequest{Token: token}
	empty := bareHealth(b)
	for name, workers := range map[string]int{"One": 1, "Sixteen": 16} {
		b.Run(name, func(b *testing.B) {
			versus.Run(b, versus.Comparison{
				Goal: 1.67, Workers: workers,
				Raw: func() {
					if _, err := empty.Check(context.Background(), &healthpb.HealthCheckRequest{}); err != nil {
						b.Fatal(err)
					}
				},
				Ours: func() {
					if seen, err := s.tokens.Introspect(ada, request); err != nil || !seen.GetActive() {
						b.Fatal(seen, err)
					}
				},
			})
		})
	}
}

func bareHealth(b *testing.B) healthpb.HealthClient {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, health.NewServer())
	go func() { _ = server.Serve(l) }()
	b.Cleanup(server.Stop)
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	return healthpb.NewHealthClient(conn)
}
