// Command auth is the auth service: "serve" (the default) answers calls,
// "migrate up|down|status" works on the schema of its database, "keys" on the
// signing keys, "admin grant EMAIL" makes the first admin, and "config" prints
// the effective configuration with its secrets masked. It is configured by
// PURSER_* variables.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/purserhq/purser/pkg/config"
	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/pkg/telemetry"
	"github.com/purserhq/purser/services/auth/app"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "auth:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args, environ []string, out, logs io.Writer) error {
	args = append(args, "", "")
	cfg, err := app.Load(environ)
	if err != nil {
		return err
	}
	log := telemetry.NewLogger(logs, cfg.LogLevel, "auth")
	switch args[0] {
	case "", "serve":
	case "migrate":
		return app.Migrations().Command(ctx, cfg.Database, args[1], out, log)
	case "config":
		return config.Print(out, cfg)
	case "keys", "admin":
		return app.Command(ctx, cfg, log, slices.DeleteFunc(args, func(a string) bool { return a == "" }), out)
	default:
		return fmt.Errorf("unknown command %q: want serve, migrate, config, or one of\n%s", args[0], app.Usage)
	}
	redisx.LogTo(log)
	tel, err := telemetry.Start(ctx, "purser-auth")
	if err != nil {
		return err
	}
	defer tel.Flush()
	a, err := app.New(ctx, cfg, log)
	if err != nil {
		return err
	}
	log.Info("serving", "grpc", a.Addr(), "http", a.HTTPAddr())
	return a.Run(ctx)
}
