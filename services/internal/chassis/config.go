package chassis

import (
	"errors"
	"fmt"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/config"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/grpcserver"
	"github.com/purserhq/purser/pkg/lifecycle"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/process"
	"github.com/purserhq/purser/pkg/redisx"
)

// Config is the configuration common to all services, read from PURSER_*. A
// service embeds it.
type Config struct {
	Process  process.Config
	GRPC     grpcserver.Config `envPrefix:"GRPC_"`
	Database postgres.Config   `envPrefix:"DATABASE_"`
	// MigrateDatabaseURL is the server's own URL, for "migrate", where Database.URL is that
	// of a PgBouncer.
	MigrateDatabaseURL config.URL `env:"MIGRATE_DATABASE_URL"`
	// RedisURL is redis:// or redis+sentinel://, rediss for TLS; see redisx.Options.
	RedisURL config.URL       `env:"REDIS_URL,required,notEmpty"`
	Shutdown lifecycle.Config `envPrefix:"SHUTDOWN_"`
}

// Common returns c: the common configuration within that of a service.
func (c Config) Common() Config { return c }

// Validate reports every error in c.
func (c Config) Validate() error {
	return errors.Join(c.Process.Validate(), c.GRPC.Validate(), c.Database.Validate(), c.Shutdown.Validate(),
		checkRedisURL(c.RedisURL), c.checkMigrateDatabase())
}

// migrateDatabase returns the settings of the database for "migrate".
func (c Config) migrateDatabase() (postgres.Config, error) {
	direct := c.Database
	if c.MigrateDatabaseURL != "" {
		direct.URL, direct.PgBouncer = c.MigrateDatabaseURL, false
		return direct, nil
	}
	if direct.PgBouncer {
		return direct, errors.New("PURSER_MIGRATE_DATABASE_URL is needed, the URL of the server itself: " +
			"PURSER_DATABASE_PGBOUNCER is set, and PgBouncer leaves the lock of a migration behind")
	}
	return direct, nil
}

func (c Config) checkMigrateDatabase() error {
	if c.MigrateDatabaseURL == "" {
		return nil
	}
	if err := postgres.CheckURL(c.MigrateDatabaseURL.Reveal()); err != nil {
		return fmt.Errorf("PURSER_MIGRATE_DATABASE_URL: %w", err)
	}
	return nil
}

// CheckForServe checks what only "serve" needs: the files that c names.
func (c Config) CheckForServe() error {
	err := errors.Join(c.GRPC.Check(), c.Database.Check())
	if failed := redisx.CheckFiles(c.RedisURL.Reveal()); failed != nil {
		err = errors.Join(err, fmt.Errorf("PURSER_REDIS_URL: %w", failed))
	}
	return err
}

func checkRedisURL(u config.URL) error {
	if u == "" {
		return nil // reported as missing
	}
	if err := redisx.CheckURL(u.Reveal()); err != nil {
		return fmt.Errorf("PURSER_REDIS_URL: %w", err)
	}
	return nil
}

// AuthConfig is the configuration of a service that verifies auth's tokens, read
// from PURSER_*. A service embeds it.
type AuthConfig struct {
	Tokens authn.Config
	// Auth is the gRPC address of the auth service, which streams revocations.
	// Without it a revoked token is accepted until it expires.
	Auth grpcclient.Config `envPrefix:"AUTH_"`
}

// Validate reports every error in c.
func (c AuthConfig) Validate() error { return c.Tokens.Validate() }

// CheckForServe checks what only "serve" needs: auth's address and the files that
// its client needs, and those that reading the key set needs.
func (c AuthConfig) CheckForServe() error {
	return errors.Join(c.Tokens.Check(), c.Auth.Check("PURSER_AUTH_"))
}

// ServiceAccountConfig is the account of auth that a service acts as on its own
// behalf, read from PURSER_SERVICE_*. A service that has one embeds it under that
// prefix.
type ServiceAccountConfig struct {
	ID     string        `env:"ID"`
	Secret config.Secret `env:"SECRET"`
}

// Validate reports every error in c. auth is the service's client of auth.
func (c ServiceAccountConfig) Validate(auth grpcclient.Config) error {
	if (c.ID == "") != (c.Secret == "") || c.ID != "" && auth.Addr == "" {
		return errors.New("PURSER_SERVICE_ID, PURSER_SERVICE_SECRET and PURSER_AUTH_ADDR must be set together")
	}
	return nil
}
