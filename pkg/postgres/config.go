package postgres

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/purserhq/purser/pkg/config"
	"github.com/purserhq/purser/pkg/errs"
)

// Config is what a service reads of its database from PURSER_DATABASE_*.
type Config struct {
	// URL of the database, with its user and password.
	URL config.Secret `env:"URL,required,notEmpty"`
	// MaxConns is the most connections that one process opens.
	MaxConns int `env:"MAX_CONNS" envDefault:"10"`
	// StatementTimeout and LockTimeout are kept by the server.
	StatementTimeout time.Duration `env:"STATEMENT_TIMEOUT" envDefault:"5s"`
	LockTimeout      time.Duration `env:"LOCK_TIMEOUT" envDefault:"2s"`
	// PgBouncer is set when one stands in between; see Options.
	PgBouncer bool `env:"PGBOUNCER"`
}

// Validate reports every mistake in c; of the URL without any part of it.
func (c Config) Validate() error {
	var mistakes []error
	if _, err := connConfig(Options{URL: c.URL.Reveal()}); c.URL != "" && err != nil {
		mistakes = append(mistakes, fmt.Errorf("PURSER_DATABASE_URL: %w", err))
	}
	if c.MaxConns < 1 || c.MaxConns > 10_000 {
		mistakes = append(mistakes, errors.New("PURSER_DATABASE_MAX_CONNS must be 1 to 10000"))
	}
	if c.StatementTimeout < time.Millisecond || c.LockTimeout < time.Millisecond {
		mistakes = append(mistakes, errors.New(
			"PURSER_DATABASE_STATEMENT_TIMEOUT and PURSER_DATABASE_LOCK_TIMEOUT must be at least 1ms"))
	}
	return errors.Join(mistakes...)
}

// Options to Open with, for a service of this name that starts also while its
// database is away.
func (c Config) Options(name string, log *slog.Logger) Options {
	return Options{
		URL: c.URL.Reveal(), Name: name, Lazy: true, Log: log, PgBouncer: c.PgBouncer,
		MaxOpenConns: c.MaxConns, StatementTimeout: c.StatementTimeout, LockTimeout: c.LockTimeout,
	}
}

// Translate gives the errors that mean "not now" their kind: errs.Unavailable
// with reason DATABASE_UNAVAILABLE when the database can't be reached,
// DATABASE_BUSY when a statement or a lock took too long. Other errors are
// returned as they are.
func Translate(err error) error {
	if IsUnavailable(err) {
		return errs.Unavailable("DATABASE_UNAVAILABLE", "the database is away").Because(err)
	}
	var answer *pgconn.PgError
	if errors.As(err, &answer) && (answer.Code == "57014" || answer.Code == "55P03") {
		return errs.Unavailable("DATABASE_BUSY", "the database took too long").Because(err)
	}
	return err
}
