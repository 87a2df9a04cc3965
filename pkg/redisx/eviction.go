package redisx

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/purserhq/purser/pkg/deadline"
)

const (
	// evictionTimeout is how long a server may take to tell its policy, connecting
	// included.
	evictionTimeout = 2 * time.Second
	// evictionInterval is the time between two questions: a policy may be changed, and
	// a failover may lead to a server with another one.
	evictionInterval = time.Minute
	// evictionRetry is the time after a question without an answer.
	evictionRetry = 2 * time.Second
)

// WarnOfEviction logs a warning when a server's maxmemory-policy lets it remove
// keys before they expire, which would break locks and challenges. It asks at
// once, or as soon as Redis answers, and then every minute; it repeats the warning
// only when the policy has changed. Run it beside a service; it returns nil when ctx
// ends. Of a Cluster it asks one node.
func WarnOfEviction(ctx context.Context, client redis.UniversalClient, log *slog.Logger) error {
	seen, failed := "", false
	for {
		policy, err := evictionPolicy(ctx, client)
		wait := evictionInterval
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // it was told to end
		case err != nil:
			wait = evictionRetry
			if !failed {
				log.InfoContext(ctx, "redis: the eviction policy can't be read", "error", err)
			}
		case policy != "noeviction" && policy != seen:
			log.WarnContext(ctx, "redis may evict locks and challenges: set maxmemory-policy to noeviction",
				"maxmemory_policy", policy)
		}
		if failed = err != nil; !failed {
			seen = policy
		}
		if deadline.Pause(ctx, wait) != nil {
			return nil //nolint:nilerr // it was told to end
		}
	}
}

func evictionPolicy(ctx context.Context, client redis.UniversalClient) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, evictionTimeout)
	defer cancel()
	info, err := client.Info(ctx, "memory").Result()
	if err != nil {
		return "", fmt.Errorf("redisx: INFO memory: %w", Unavailable(err))
	}
	for line := range strings.Lines(info) {
		if policy, ok := strings.CutPrefix(line, "maxmemory_policy:"); ok {
			return strings.TrimSpace(policy), nil
		}
	}
	return "", errors.New("redisx: INFO memory has no maxmemory_policy")
}
