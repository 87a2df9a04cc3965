package app_test

import (
	"context"
	"io"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
	jobsv1 "github.com/purserhq/purser/proto/gen/purser/jobs/v1"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
	"github.com/purserhq/purser/services/portfolio/app"
	"github.com/purserhq/purser/services/portfolio/migrations"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// service is a running portfolio service and what it depends on.
type service struct {
	portfoliov1.PortfolioServiceClient
	defi       portfoliov1.DefiServiceClient
	lots       portfoliov1.LotServiceClient
	alerts     portfoliov1.AlertServiceClient
	jobs       jobsv1.JobServiceClient
	health     grpc_health_v1.HealthClient
	db         *testkit.DB
	issuer     *servicetest.Issuer
	wallet     *fakeWallet
	walletAddr string
}

// dependencies starts what the service depends on, but Redis.
func dependencies(t *testing.T) service {
	t.Helper()
	s := service{db: testkit.Postgres(t, migrations.FS), issuer: servicetest.NewIssuer(t), wallet: &fakeWallet{}}
	s.walletAddr = s.wallet.serve(t)
	return s
}

// start runs the service, without Redis, until the test ends.
func start(t *testing.T) service {
	t.Helper()
	return dependencies(t).replica(t, servicetest.NoRedis, io.Discard)
}

// replica runs another instance of the service with these additional settings.
func (s service) replica(t *testing.T, redisURL string, logs io.Writer, settings ...string) service {
	t.Helper()
	conn := servicetest.Start(t, app.Load, app.New, logs, append([]string{
		"PURSER_DATABASE_URL=" + s.db.URL, "PURSER_REDIS_URL=" + redisURL, "PURSER_ISSUER=" + s.issuer.URL,
		"PURSER_WALLET_ADDR=" + s.walletAddr, "PURSER_WALLET_PLAINTEXT=true", "PURSER_GRPC_PLAINTEXT=true",
	}, settings...)...)
	s.PortfolioServiceClient = portfoliov1.NewPortfolioServiceClient(conn)
	s.defi, s.lots = portfoliov1.NewDefiServiceClient(conn), portfoliov1.NewLotServiceClient(conn)
	s.alerts = portfoliov1.NewAlertServiceClient(conn)
	s.jobs, s.health = jobsv1.NewJobServiceClient(conn), grpc_health_v1.NewHealthClient(conn)
	return s
}

// startReplicas runs two replicas with these additional settings.
func startReplicas(t *testing.T, settings ...string) servicetest.Replicas[service] {
	t.Helper()
	s := dependencies(t)
	return servicetest.StartReplicas(t, func(redisURL string, logs io.Writer) service {
		return s.replica(t, redisURL, logs, settings...)
	})
}

// newUser returns a context for calls of a new user with these permissions, and the
// user's token.
func (s service) newUser(t *testing.T, permissions ...string) (context.Context, string) {
	t.Helper()
	return s.as(t, uuid.New(), permissions...)
}

func (s service) as(t *testing.T, user uuid.UUID, permissions ...string) (context.Context, string) {
	t.Helper()
	token := s.issuer.Token(t, user, servicetest.Permissions(permissions...))
	return grpcclient.WithToken(t.Context(), token), token
}

func (s service) exec(t *testing.T, query string) {
	t.Helper()
	if _, err := s.db.SQL().ExecContext(t.Context(), query); err != nil {
		t.Fatal(err)
	}
}
