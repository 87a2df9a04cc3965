// Package process is the main of a service: its commands, its logger and
// telemetry, and the admin port.
//
// It promises: every command reads the same configuration and refuses it with
// every mistake named; "serve" ends without an error on SIGINT or SIGTERM once
// everything is drained; the admin port answers from before the service is built
// until after it is drained.
//
// A program that uses it carries the roots of the public certificate
// authorities and the time zones for where the system has none, as in an image
// with nothing else in it; where the system has some, those count.
//
// Limits: the admin port asks nobody who they are. Bind it to loopback, or to an
// address that only the operators' network reaches.
package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
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
	// LogLevel is the least level that is logged: DEBUG, INFO, WARN or ERROR.
	LogLevel slog.Level `env:"LOG_LEVEL" envDefault:"INFO"`
	// AdminAddr is where metrics, profiles and the log level are served,
	// host:port; nowhere when empty.
	AdminAddr string `env:"ADMIN_ADDR"`
}

// Validate reports every mistake in c.
func (c Config) Validate() error { return config.HostPort("PURSER_ADMIN_ADDR", c.AdminAddr) }

// Runner is a service that was built.
type Runner interface {
	// Run serves until ctx ends, then stops in order and closes everything.
	Run(ctx context.Context) error
}

// Service is what is a service's own; C is its configuration. All fields are
// required but Check, Command and Usage.
type Service[C any] struct {
	// Name of the program, as in "auth".
	Name string
	// Load reads the configuration and reports every mistake.
	Load func(environ []string) (C, error)
	// Process is the part of the configuration that is this package's.
	Process func(C) Config
	// New builds the service, listening but not yet answering.
	New func(ctx context.Context, c C, log *slog.Logger) (Runner, error)
	// Migrate carries out "migrate up", "down" or "status".
	Migrate func(ctx context.Context, c C, what string, out io.Writer, log *slog.Logger) error
	// Check reports every mistake that matters to "serve" alone, such as files
	// that a migration doesn't have; nil for none.
	Check func(C) error
	// Health asks a running process of this configuration how it is.
	Health func(ctx context.Context, c C) error
	// Command carries out whatever else the program can do; it returns
	// ErrUnknownCommand for what it can't. Usage lists that, a line each.
	Command func(ctx context.Context, c C, log *slog.Logger, args []string, out io.Writer) error
	Usage   string
}

// ErrUnknownCommand is the answer to a command that a program doesn't have.
var ErrUnknownCommand = errors.New("unknown command")

// usage of every service.
const usage = `serve                     answer calls (the default)
migrate up|down|status    work on the schema of the database
healthcheck               ask the process that serves with this configuration how it is
config                    print the effective configuration, secrets masked
version                   print what was built of what`

const settings = `Settings are PURSER_* variables; PURSER_X_FILE names a file that PURSER_X is read
from. A start with mistakes lists them all and exits with 1, as what fails does.`

// Main runs the program with its arguments and environment, and exits with 1
// after it has told an error on standard error.
func (s Service[C]) Main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := s.Run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", s.Name, err)
		os.Exit(1)
	}
}

// Run carries out one command. out takes what was asked for, logs the log.
func (s Service[C]) Run(ctx context.Context, args, environ []string, out, logs io.Writer) error {
	command := "serve"
	if len(args) > 0 {
		command = args[0]
	}
	switch command {
	case "version":
		_, err := fmt.Fprintln(out, s.Name, version())
		return err
	case "help", "-h", "--help":
		_, err := fmt.Fprintf(out, "%s [command]\n\n%s\n\n%s\n", s.Name, s.usage(), settings)
		return err
	}
	if err := s.understand(command, args); err != nil {
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

// understand refuses what is no command before anything is read. What comes
// after the first word of the service's own commands is for those to judge.
func (s Service[C]) understand(command string, args []string) error {
	switch {
	case command == "migrate":
		if len(args) != 2 || args[1] != "up" && args[1] != "down" && args[1] != "status" {
			return errors.New("migrate: want up, down or status")
		}
	case command == "serve" || command == "healthcheck" || command == "config":
		if len(args) > 1 {
			return fmt.Errorf("%s takes no arguments, and %q are given; settings are variables, see help", command,
				strings.Join(args[1:], " "))
		}
	case !strings.HasPrefix(s.Usage, command+" ") && !strings.Contains(s.Usage, "\n"+command+" "):
		return s.unknown(args)
	}
	return nil
}

func (s Service[C]) unknown(args []string) error {
	return fmt.Errorf("unknown command %q: want one of\n%s", strings.Join(args, " "), s.usage())
}

// load reads the configuration, and checks the rest of it where that matters.
func (s Service[C]) load(command string, environ []string) (C, error) {
	c, err := s.Load(environ)
	if s.Check == nil || command != "serve" {
		return c, err
	}
	rest := s.Check(c)
	if err == nil && rest != nil {
		rest = fmt.Errorf("configuration:\n%w", rest)
	}
	return c, errors.Join(err, rest)
}

func (s Service[C]) usage() string { return strings.TrimSpace(usage + "\n" + s.Usage) }

func (s Service[C]) serve(ctx context.Context, c C, level *slog.LevelVar, log *slog.Logger) (err error) {
	redisx.LogTo(log)
	tel, err := telemetry.Start(ctx, "purser-"+s.Name)
	if err != nil {
		return err
	}
	defer tel.Flush()
	if addr := s.Process(c).AdminAddr; addr != "" {
		a, err := listenAdmin(ctx, addr, tel.Registry, level, log)
		if err != nil {
			return err
		}
		defer a.close()
	}
	r, err := s.New(ctx, c, log)
	if err != nil {
		return err
	}
	return r.Run(ctx)
}

// version is the module's, or the commit that the program was built of.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	parts := []string{info.Main.Version}
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			parts = append(parts, s.Value)
		case s.Key == "vcs.modified" && s.Value == "true":
			parts = append(parts, "modified")
		}
	}
	return strings.Join(append(parts, info.GoVersion), " ")
}
