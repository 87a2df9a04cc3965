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

// Config is the head of each service's configuration, read from PURSER_*. A
// service embeds it.
type Config struct {
	Process  process.Config
	GRPC     grpcserver.Config `envPrefix:"GRPC_"`
	Database postgres.Config   `envPrefix:"DATABASE_"`
	// RedisURL is redis:// or rediss://, see redisx.Options.
	RedisURL config.Secret    `env:"REDIS_URL,required,notEmpty"`
	Shutdown lifecycle.Config `envPrefix:"SHUTDOWN_"`
}

// Head returns c. Program finds the head of a service's configuration by it.
func (c Config) Head() Config { return c }

// Validate reports every error in c.
func (c Config) Validate() error {
	return errors.Join(c.Process.Validate(), c.GRPC.Validate(), c.Database.Validate(), c.Shutdown.Validate(),
		checkRedisURL(c.RedisURL))
}

// CheckFiles reports what is wrong with the files that c names. Only "serve"
// needs them.
func (c Config) CheckFiles() error { return c.GRPC.Check() }

func checkRedisURL(u config.Secret) error {
	if u == "" {
		return nil // reported as missing
	}
	if err := redisx.CheckURL(u.Reveal()); err != nil {
		return fmt.Errorf("PURSER_REDIS_URL: %w", err)
	}
	return nil
}

// AuthConfig is what a service that verifies auth's tokens reads from PURSER_*. A
// service embeds it.
type AuthConfig struct {
	Tokens authn.Config
	// Auth is the gRPC address of the auth service, which streams revocations.
	// Without it a revoked token is accepted until it expires.
	Auth grpcclient.Config `envPrefix:"AUTH_"`
}

// Validate reports every error in c.
func (c AuthConfig) Validate() error { return c.Tokens.Validate() }

// CheckFiles reports what is wrong with the files that c names and with auth's
// address. Only "serve" needs them.
func (c AuthConfig) CheckFiles() error { return c.Auth.Check("PURSER_AUTH_") }
