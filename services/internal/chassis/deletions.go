package chassis

import (
	"context"
	"time"

	"google.golang.org/grpc"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/jobs"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/services/internal/erasure"
)

const (
	// erasureTimeout bounds a run of the jobs that erase; what is left is for the next one.
	erasureTimeout = 10 * time.Minute
	// erasurePause is the least time between two runs that revocations cause.
	erasurePause = time.Second
)

// FollowDeletions returns the jobs that erase what data has of users who were deleted, and has the first one's work
// done as soon as NewVerifier's stream tells of a revoked user as well. Without an account of the service, self, there
// are no such jobs.
func (b *Builder) FollowDeletions(c AuthConfig, auth *grpc.ClientConn, self Identity, data erasure.Data) []Job {
	if self == nil {
		b.Log.Warn("PURSER_SERVICE_ID is not set: the data of deleted users is not erased")
		return nil
	}
	follower := erasure.NewFollower(erasure.Options{
		DB: b.DB, Auth: authv1.NewDeletionServiceClient(auth), Issuer: c.Tokens.Issuer, AsSelf: self, Data: data,
		Log: b.Log,
	})
	b.Loop("erasure", func(ctx context.Context) error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-b.usersRevoked:
			}
			if err := follower.Run(ctx); err != nil && ctx.Err() == nil {
				b.Log.WarnContext(ctx, "data of deleted users not erased yet", "error", err)
			}
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(erasurePause):
			}
		}
	})
	return []Job{
		{Job: jobs.Job{Name: "erase_deleted_users", Cron: "* * * * *", Timeout: erasureTimeout,
			CatchUp: jobs.CatchUpSkip, Backoff: func(int) time.Duration { return time.Minute },
			Run: func(ctx context.Context, _ *jobs.Run) error { return follower.Run(ctx) }}},
		{Job: jobs.Job{Name: "sweep_deleted_users", Cron: "47 4 * * *", Timeout: erasureTimeout,
			Run: func(ctx context.Context, _ *jobs.Run) error { return follower.Sweep(ctx) }}},
	}
}

// noticeUsers wakes FollowDeletions when a user is revoked.
func (b *Builder) noticeUsers(watch authn.WatchRevocations) authn.WatchRevocations {
	return func(ctx context.Context, take func(authn.RevocationUpdate) error) error {
		return watch(ctx, func(u authn.RevocationUpdate) error {
			for _, r := range u.Revoked {
				if r.Kind != authn.RevokedUser {
					continue
				}
				select {
				case b.usersRevoked <- struct{}{}:
				default: // a signal is pending already
				}
				break
			}
			return take(u)
		})
	}
}
