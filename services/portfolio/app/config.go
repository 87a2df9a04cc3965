package app

import (
	"errors"
	"log/slog"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/config"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/grpcserver"
	"github.com/purserhq/purser/pkg/lifecycle"
	"github.com/purserhq/purser/pkg/postgres"
)

// Config of the portfolio service, read from PURSER_*.
type Config struct {
	LogLevel slog.Level        `env:"LOG_LEVEL" envDefault:"INFO"`
	GRPC     grpcserver.Config `envPrefix:"GRPC_"`
	Database postgres.Config   `envPrefix:"DATABASE_"`
	// RedisURL of the cache.
	RedisURL config.Secret `env:"REDIS_URL,required,notEmpty"`
	Tokens   authn.Config
	// Wallet is the wallet service.
	Wallet   grpcclient.Config `envPrefix:"WALLET_"`
	Shutdown lifecycle.Config  `envPrefix:"SHUTDOWN_"`
}

// Load reads the configuration from environ and reports every mistake.
func Load(environ []string) (Config, error) {
	var c Config
	err := config.Load(environ, &c)
	return c, err
}

// Validate reports every mistake in c.
func (c Config) Validate() error {
	mistakes := []error{c.GRPC.Validate()}
	if c.Wallet.Addr == "" {
		mistakes = append(mistakes, errors.New("PURSER_WALLET_ADDR is needed: host:port of the wallet service"))
	}
	return errors.Join(append(mistakes, c.Tokens.Validate())...)
}
