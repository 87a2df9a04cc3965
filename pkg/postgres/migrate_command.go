package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
)

// Migrations are the migrations of a service's schema.
type Migrations struct {
	// Service names the connection.
	Service string
	// Files are goose migrations at the top level.
	Files fs.FS
}

// Command implements the subcommands of `migrate`: "up" applies pending migrations,
// "down" reverts the newest, and "status" changes nothing. Each prints the schema's
// version to out.
func (m Migrations) Command(ctx context.Context, c Config, subcommand string, out io.Writer,
	log *slog.Logger) (err error) {
	o := c.Options(m.Service+"-migrate", log)
	o.Lazy = false
	db, err := Open(ctx, o)
	if err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	switch subcommand {
	case "up":
		err = Migrate(ctx, db, m.Files)
	case "down":
		err = Down(ctx, db, m.Files)
	case "status":
	default:
		return fmt.Errorf("migrate %q: the subcommand must be up, down or status", subcommand)
	}
	if err != nil {
		return err
	}
	s, err := Status(ctx, db, m.Files)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "schema %d of %d, %d pending\n", s.Version, s.Known, len(s.Pending))
	return err
}
