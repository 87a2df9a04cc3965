package app

import (
	"errors"
	"log/slog"
	"net/url"
	"strings"

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
	// Issuer that tokens must name, and where its key set is; the set's URL
	// is the issuer's /.well-known/jwks.json unless set.
	Issuer  string `env:"ISSUER,required,notEmpty"`
	JWKSURL string `env:"JWKS_URL"`
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
	for _, u := range []struct{ name, value string }{{"PURSER_ISSUER", c.Issuer}, {"PURSER_JWKS_URL", c.JWKSURL}} {
		if u.value != "" && !isURL(u.value) {
			mistakes = append(mistakes, errors.New(u.name+" must be an http or https URL"))
		}
	}
	return errors.Join(mistakes...)
}

func isURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https")
}

func (c Config) jwksURL() string {
	if c.JWKSURL != "" {
		return c.JWKSURL
	}
	return strings.TrimRight(c.Issuer, "/") + "/.well-known/jwks.json"
}
