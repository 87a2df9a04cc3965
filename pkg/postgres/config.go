package postgres

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/purserhq/purser/pkg/config"
)

// Config is a service's settings of its database, from PURSER_DATABASE_*.
type Config struct {
	// URL of the database, with its user and password.
	URL config.URL `env:"URL,required,notEmpty"`
	// MaxConns is the maximum of connections that one process opens.
	MaxConns int `env:"MAX_CONNS" envDefault:"10"`
	// StatementTimeout and LockTimeout are enforced by the server.
	StatementTimeout time.Duration `env:"STATEMENT_TIMEOUT" envDefault:"5s"`
	LockTimeout      time.Duration `env:"LOCK_TIMEOUT" envDefault:"2s"`
	// Wait is how long "migrate" and other commands wait for a database that is
	// unavailable. A service doesn't wait: it starts without one.
	Wait time.Duration `env:"WAIT" envDefault:"0s"`
	// PgBouncer is set when connections go through one; see Options.
	PgBouncer bool `env:"PGBOUNCER"`
}

// Validate returns an error for each invalid field, joined. It contains no part of
// the URL.
func (c Config) Validate() error {
	var invalid []error
	if c.URL != "" {
		if err := CheckURL(c.URL.Reveal()); err != nil {
			invalid = append(invalid, fmt.Errorf("PURSER_DATABASE_URL: %w", err))
		}
	}
	if c.MaxConns < 1 || c.MaxConns > 10_000 {
		invalid = append(invalid, errors.New("PURSER_DATABASE_MAX_CONNS must be 1 to 10000"))
	}
	if c.StatementTimeout < time.Millisecond || c.LockTimeout < time.Millisecond {
		invalid = append(invalid, errors.New(
			"PURSER_DATABASE_STATEMENT_TIMEOUT and PURSER_DATABASE_LOCK_TIMEOUT must be at least 1ms"))
	}
	if c.Wait < 0 || c.Wait > time.Hour {
		invalid = append(invalid, fmt.Errorf("PURSER_DATABASE_WAIT is %s; it must be 0 to 1h", c.Wait))
	}
	return errors.Join(invalid...)
}

// CheckURL returns an error if url isn't that of a Postgres server, or has a parameter
// that is unknown, wrong or without effect. The error contains no other part of it. The
// files that it names are not looked at.
func CheckURL(url string) error {
	_, err := checkURL(url)
	return err
}

// Check returns an error when a file that the URL names can't be read or is invalid.
func (c Config) Check() error {
	if c.URL == "" || CheckURL(c.URL.Reveal()) != nil {
		return nil //nolint:nilerr // Validate reports it
	}
	if _, err := parseURL(c.URL.Reveal()); err != nil {
		return fmt.Errorf("PURSER_DATABASE_URL: %w", err)
	}
	return nil
}

// Options returns the options to Open with, for a service of this name that can
// start while its database is unavailable.
func (c Config) Options(name string, log *slog.Logger) Options {
	return Options{
		URL: c.URL.Reveal(), Name: name, Lazy: true, Log: log, PgBouncer: c.PgBouncer, Wait: c.Wait,
		MaxOpenConns: c.MaxConns, StatementTimeout: c.StatementTimeout, LockTimeout: c.LockTimeout,
	}
}
