package chassis

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/redis/go-redis/v9"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/redisx"
)

// OpenCommandDatabase opens the database of the service with this name for one of its commands, which closes it. It
// waits for the database if the configuration says so.
func OpenCommandDatabase(ctx context.Context, name string, cfg Config, log *slog.Logger) (*postgres.DB, error) {
	options := cfg.Database.Options(qualified(name), log)
	options.Lazy = options.Wait == 0
	db, err := postgres.Open(ctx, options)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	return db, nil
}

// OpenCommandRedis is OpenCommandDatabase for Redis, which may be unreachable.
func OpenCommandRedis(name string, cfg Config, log *slog.Logger) (redis.UniversalClient, error) {
	r, err := redisx.New(redisx.Options{URL: cfg.RedisURL.Reveal(), Name: qualified(name), Log: log})
	if err != nil {
		return nil, fmt.Errorf("open Redis: %w", err)
	}
	return r, nil
}
