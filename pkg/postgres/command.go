package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
)

// Migrations are a service's schema.
type Migrations struct {
	// Service that the connection is named for.
	Service string
	// Files are goose migrations at the top level.
	Files fs.FS
}

// Command carries out what `migrate` was asked for on the database of c, and
// tells on out what it did: "up", "down" or "status".
func (m Migrations) Command(ctx context.Context, c Config, what string, out io.Writer, log *slog.Logger) (err error) {
	o := c.Options(m.Service+"-migrate", log)
	o.Lazy = false
	db, err := Open(ctx, o)
	if err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	switch what {
	case "up":
		err = Migrate(ctx, db, m.Files)
	case "down":
		err = Down(ctx, db, m.Files)
	case "status":
	default:
		return fmt.Errorf("migrate %q: want up, down or status", what)
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
