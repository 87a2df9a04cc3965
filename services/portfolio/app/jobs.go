package app

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/grpc"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/jobs"
	"github.com/purserhq/purser/pkg/lifecycle"
	"github.com/purserhq/purser/pkg/postgres"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/services/portfolio/internal/snapshot"
	"github.com/purserhq/purser/services/portfolio/internal/store"
)

const (
	// snapshotShards of a round, which replicas share.
	snapshotShards = 4
	// snapshotTimeout of one shard: less than the hour that it is for.
	snapshotTimeout = 50 * time.Minute
	// snapshotRetry is how long after a failure a shard is tried again.
	snapshotRetry = time.Minute
	keepRuns      = 30 * 24 * time.Hour
)

// runJobs adds the service's jobs to g, and returns what runs them. Without a
// service account there is nobody to take snapshots as.
func runJobs(g *lifecycle.Group, db *postgres.DB, auth *grpc.ClientConn, p *store.Portfolios, s *snapshot.Service,
	cfg Config, log *slog.Logger) (*jobs.Runner, error) {
	runner := jobs.New(db, jobs.Options{Log: log})
	all := []jobs.Job{runner.Pruning("@daily", keepRuns)}
	if cfg.Service.ID == "" {
		log.Warn("PURSER_SERVICE_ID is not set: no snapshot is taken but those that are asked for")
	} else {
		round := snapshot.NewHourlyJob(p, s, inOwnName(auth, cfg.Service), log, time.Now)
		all = append(all, jobs.Job{
			Name: "take_snapshots", Cron: cfg.SnapshotCron, Shards: snapshotShards, Timeout: snapshotTimeout,
			Backoff: func(int) time.Duration { return snapshotRetry },
			Run:     func(ctx context.Context, r *jobs.Run) error { return round.Run(ctx, r.Shard, r.Shards) },
		})
	}
	for _, j := range all {
		if err := runner.Add(j); err != nil {
			return nil, fmt.Errorf("PURSER_SNAPSHOT_CRON: %w", err)
		}
	}
	g.Loop("jobs", func(ctx context.Context) error { return runner.Serve(ctx, cfg.Shutdown.Drain) })
	return runner, nil
}

// inOwnName returns what puts the service's own token into a context.
func inOwnName(auth *grpc.ClientConn, account ServiceConfig) func(context.Context) (context.Context, error) {
	sessions := authv1.NewSessionServiceClient(auth)
	tokens := authn.NewServiceTokens(func(ctx context.Context) (string, time.Time, error) {
		resp, err := sessions.IssueServiceToken(ctx,
			&authv1.IssueServiceTokenRequest{ClientId: account.ID, ClientSecret: account.Secret.Reveal()})
		if err != nil {
			return "", time.Time{}, err
		}
		return resp.GetAccessToken(), resp.GetAccessExpireTime().AsTime(), nil
	}, nil)
	return func(ctx context.Context) (context.Context, error) {
		token, err := tokens.Token(ctx)
		if err != nil {
			return nil, err
		}
		return grpcclient.WithToken(ctx, token), nil
	}
}
