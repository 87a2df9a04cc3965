// Package process is the main function of a service: its commands, its logger
// and telemetry, and the ports of operators and of metrics.
//
// It promises: every command reads the same configuration, and with an invalid
// one fails with all its errors; "serve" returns without an error on SIGINT or
// SIGTERM, once everything is drained; the admin port and that of metrics answer from
// before the service is built until after it is drained.
//
// The program contains the root certificates of the public authorities and the
// time zone database, for images that have neither; those of the system are
// used where there are some.
//
// Limits: both ports have no authentication. Bind them to loopback, or to an address
// that only the operators' network reaches, or the scraper of metrics.
package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	_ "time/tzdata" // see the package's comment

	_ "golang.org/x/crypto/x509roots/fallback" // see the package's comment

	"github.com/purserhq/purser/pkg/config"
	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/pkg/telemetry"
)

// Config of a process, read from PURSER_*.
type Config struct {
	// LogLevel is the lowest level that is logged: DEBUG, INFO, WARN or ERROR.
	LogLevel slog.Level `env:"LOG_LEVEL" envDefault:"INFO"`
	// AdminAddr is the address of the admin port, host:port, which serves metrics,
	// profiles and the log level; none when empty.
	AdminAddr string `env:"ADMIN_ADDR"`
	// MetricsAddr is the address of a port, host:port, which serves metrics alone; none
	// when empty.
	MetricsAddr string `env:"METRICS_ADDR"`
}

// Validate returns all that is wrong with c, joined, each error naming the variable.
func (c Config) Validate() error {
	return errors.Join(config.HostPort("PURSER_ADMIN_ADDR", c.AdminAddr),
		config.HostPort("PURSER_METRICS_ADDR", c.MetricsAddr))
}

// Runner is a service that is built and not yet serving.
type Runner interface {
	// Run serves until ctx ends, then drains and closes everything.
	Run(ctx context.Context) error
}

// Service is what differs between services; C is the type of its configuration.
// All fields but Check, Command and Usage are required.
type Service[C any] struct {
	// Name of the program, as in "auth".
	Name string
	// Load reads the configuration; the error joins all that were found.
	Load func(environ []string) (C, error)
	// Process returns this package's part of the configuration.
	Process func(C) Config
	// New builds the service, which listens but doesn't answer yet.
	New func(ctx context.Context, c C, log *slog.Logger) (Runner, error)
	// Migrate carries out "migrate up", "migrate down" or "migrate status"; what is
	// the second word.
	Migrate func(ctx context.Context, c C, what string, out io.Writer, log *slog.Logger) error
	// Check returns what is wrong with the configuration for "serve" alone, such as
	// files that can't be read, which other commands don't need.
	Check func(C) error
	// Health returns an error unless the process that serves with this
	// configuration is ready.
	Health func(ctx context.Context, c C) error
	// Command carries out the service's own commands, which Usage lists, one a line.
	// It returns ErrUnknownCommand for others.
	Command func(ctx context.Context, c C, log *slog.Logger, args []string, out io.Writer) error
	Usage   string
}

// ErrUnknownCommand is returned for a command that the program doesn't have, and
// ErrNoCommand when there is none.
var (
	ErrUnknownCommand = errors.New("unknown command")
	ErrNoCommand      = errors.New("a command is missing")
)

// usage of every service.
const usage = `serve                     answer calls
migrate up|down|status    work on the schema of the database
healthcheck               check that the process with this configuration is ready
config                    print the effective configuration, secrets masked
version                   print the version and the commit of the program`

const settings = `Settings are PURSER_* variables; PURSER_X_FILE names a file that PURSER_X is read
from. Errors in the settings are listed all at once. The exit code is 1 for any error,
and 2 without a command.`

// Main runs the program with its arguments and environment. It prints an error on
// standard error and exits with 1; without a command it prints its usage there and
// exits with 2.
func (s Service[C]) Main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := s.Run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	stop()
	if errors.Is(err, ErrNoCommand) {
		fmt.Fprint(os.Stderr, s.help())
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", s.Name, err)
		os.Exit(1)
	}
}

// Run carries out one command, the first of args; ErrNoCommand without any. The
// output of the command goes to out, the log to logs.
func (s Service[C]) Run(ctx context.Context, args, environ []string, out, logs io.Writer) error {
	if len(args) == 0 {
		return ErrNoCommand
	}
	command := args[0]
	switch command {
	case "version":
		_, err := fmt.Fprintln(out, s.Name, Version())
		return err
	case "help", "-h", "--help":
		_, err := io.WriteString(out, s.help())
		return err
	}
	if err := s.checkArgs(command, args); err != nil {
		return err
	}
	c, err := s.load(command, environ)
	if err != nil {
		return err
	}
	level := new(slog.LevelVar)
	level.Set(s.Process(c).LogLevel)
	log := telemetry.NewLogger(logs, level, s.Name)
	switch command {
	case "serve":
		if unread := config.Unread(environ, c); len(unread) > 0 {
			log.WarnContext(ctx, "variables that nothing reads", "names", unread)
		}
		return s.serve(ctx, c, level, log)
	case "migrate":
		return s.Migrate(ctx, c, args[1], out, log)
	case "healthcheck":
		return s.Health(ctx, c)
	case "config":
		return config.Print(out, c)
	}
	err = ErrUnknownCommand
	if s.Command != nil {
		err = s.Command(ctx, c, log, args, out)
	}
	if errors.Is(err, ErrUnknownCommand) {
		return s.unknown(args)
	}
	return err
}

// checkArgs returns an error for an unknown command or wrong arguments, before the
// configuration is read. The arguments of a service's own commands are left to
// Command.
func (s Service[C]) checkArgs(command string, args []string) error {
	switch {
	case command == "migrate":
		if len(args) != 2 || args[1] != "up" && args[1] != "down" && args[1] != "status" {
			return errors.New("migrate must be followed by up, down or status")
		}
	case command == "serve" || command == "healthcheck" || command == "config":
		if len(args) > 1 {
			return fmt.Errorf("%s takes no arguments, got %q; settings are environment variables, see help", command,
				strings.Join(args[1:], " "))
		}
	case !strings.HasPrefix(s.Usage, command+" ") && !strings.Contains(s.Usage, "\n"+command+" "):
		return s.unknown(args)
	}
	return nil
}

func (s Service[C]) unknown(args []string) error {
	return fmt.Errorf("unknown command %q, must be one of\n%s", strings.Join(args, " "), s.usage())
}

// load reads the configuration, and for "serve" also calls Check.
func (s Service[C]) load(command string, environ []string) (C, error) {
	c, err := s.Load(environ)
	if s.Check == nil || command != "serve" {
		return c, err
	}
	checkErr := s.Check(c)
	if err == nil && checkErr != nil {
		checkErr = fmt.Errorf("configuration:\n%w", checkErr)
	}
	return c, errors.Join(err, checkErr)
}

func (s Service[C]) help() string {
	return fmt.Sprintf("%s COMMAND\n\n%s\n\n%s\n", s.Name, s.usage(), settings)
}

func (s Service[C]) usage() string { return strings.TrimSpace(usage + "\n" + s.Usage) }

func (s Service[C]) serve(ctx context.Context, c C, level *slog.LevelVar, log *slog.Logger) (err error) {
	redisx.LogTo(log)
	telemetry.LogErrorsTo(log)
	tel, err := telemetry.Start(ctx, "purser-"+s.Name)
	if err != nil {
		return err
	}
	defer tel.Flush()
	if addr := s.Process(c).AdminAddr; addr != "" {
		p, err := listen(ctx, "PURSER_ADMIN_ADDR", "admin port", addr, adminHandler(tel.Registry, level, log), log)
		if err != nil {
			return err
		}
		defer p.close()
	}
	if addr := s.Process(c).MetricsAddr; addr != "" {
		p, err := listen(ctx, "PURSER_METRICS_ADDR", "metrics port", addr, metricsHandler(tel.Registry), log)
		if err != nil {
			return err
		}
		defer p.close()
	}
	r, err := s.New(ctx, c, log)
	if err != nil {
		return err
	}
	return r.Run(ctx)
}
