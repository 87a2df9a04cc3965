package chassis

import (
	"context"
	"io"
	"io/fs"
	"log/slog"

	"github.com/purserhq/purser/pkg/config"
	"github.com/purserhq/purser/pkg/grpcserver"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/process"
)

// ServiceConfig is the configuration of a service: a struct that embeds [Config].
type ServiceConfig interface {
	Common() Config
	// Validate checks the values, which every command needs.
	Validate() error
	// CheckForServe checks what only "serve" needs: files, addresses of other
	// services.
	CheckForServe() error
}

// Service is a built service: an [App], or a struct that embeds one.
type Service interface {
	process.Runner
	Listeners() []any
}

// Program returns the program of a service with this name, for example "wallet".
// The service may add commands of its own to the result. build makes the service
// from its configuration.
func Program[C ServiceConfig, S Service](name string, migrations fs.FS,
	build func(context.Context, C, *slog.Logger) (S, error)) process.Service[C] {
	return process.Service[C]{
		Name:    name,
		Load:    Load[C],
		Process: func(c C) process.Config { return c.Common().Process },
		Check:   C.CheckForServe,
		New: func(ctx context.Context, c C, log *slog.Logger) (process.Runner, error) {
			s, err := build(ctx, c, log)
			if err != nil {
				return nil, err
			}
			log.InfoContext(ctx, "serving", s.Listeners()...)
			return s, nil
		},
		Migrate: func(ctx context.Context, c C, command string, out io.Writer, log *slog.Logger) error {
			database, err := c.Common().migrateDatabase()
			if err != nil {
				return err
			}
			return Migrations(name, migrations).Command(ctx, database, command, out, log)
		},
		Health: func(ctx context.Context, c C) error { return grpcserver.CheckHealth(ctx, c.Common().GRPC) },
	}
}

// Load reads a configuration from environ, in the form of os.Environ. The error
// joins all errors in it.
func Load[C ServiceConfig](environ []string) (C, error) {
	var c C
	err := config.Load(environ, &c)
	return c, err
}

// Migrations returns the migrations of a service with this name.
func Migrations(name string, files fs.FS) postgres.Migrations {
	return postgres.Migrations{Service: qualified(name), Files: files}
}
