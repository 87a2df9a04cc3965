package suite

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5"
)

// useDatabase creates a database for each service on the external server, unless it exists.
func (b *Backing) useDatabase(ctx context.Context) (err error) {
	base, err := url.Parse(b.opts.External.Database)
	if err != nil || !strings.HasPrefix(base.Scheme, "postgres") || base.Host == "" {
		return errors.New("PURSER_DATABASE_URL must read postgres://user:password@host:port/database")
	}
	conn, err := pgx.Connect(ctx, base.String())
	if err != nil {
		return fmt.Errorf("PURSER_DATABASE_URL: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	for _, s := range services() {
		name := "purser_" + s
		var exists bool
		if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)",
			name).Scan(&exists); err != nil {
			return fmt.Errorf("PURSER_DATABASE_URL: %w", err)
		}
		if !exists {
			if _, err := conn.Exec(ctx, "CREATE DATABASE "+name); err != nil {
				return fmt.Errorf("PURSER_DATABASE_URL: create %s: %w", name, err)
			}
		}
		service := *base
		service.Path = "/" + name
		b.databases[s] = service.String()
	}
	return nil
}
