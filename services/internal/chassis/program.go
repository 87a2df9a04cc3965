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

// Configured is the configuration of a service: a struct that embeds [Config].
type Configured interface {
	Head() Config
	Validate() error
	CheckFiles() error
}

// Service is a built service: an [App], or a struct that embeds one.
type Service interface {
	process.Runner
	Listeners() []any
}

// Program returns the main of a service with this name, for example "wallet":
// its own commands may be added to the result. build makes the service from its
// configuration.
func Program[C Configured, S Service](name string, migrations fs.FS,
	build func(context.Context, C, *slog.Logger) (S, error)) process.Service[C] {
	return process.Service[C]{
		Name:    name,
		Load:    Load[C],
		Process: func(c C) process.Config { return c.Head().Process },
		Check:   C.CheckFiles,
		New: func(ctx context.Context, c C, log *slog.Logger) (process.Runner, error) {
			s, err := build(ctx, c, log)
			if err != nil {
				return nil, err
			}
			log.InfoContext(ctx, "serving", s.Listeners()...)
			return s, nil
		},
		Migrate: func(ctx context.Context, c C, command string, out io.Writer, log *slog.Logger) error {
			return Migrations(name, migrations).Command(ctx, c.Head().Database, command, out, log)
		},
		Health: func(ctx context.Context, c C) error { return grpcserver.CheckHealth(ctx, c.Head().GRPC) },
	}
}

// Load reads a configuration from environ, in the form of os.Environ, and
// reports every error in it.
func Load[C Configured](environ []string) (C, error) {
	var c C
	err := config.Load(environ, &c)
	return c, err
}

// Migrations returns the migrations of a service with this name.
func Migrations(name string, files fs.FS) postgres.Migrations {
	return postgres.Migrations{Service: qualified(name), Files: files}
}
