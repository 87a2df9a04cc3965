package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"path"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

// migrationLock is the advisory lock that a migration holds. Advisory locks are per
// database, so services don't wait for each other.
const migrationLock int64 = 0x7075727365720001

// Schema compares a database's schema with the migrations of this binary.
type Schema struct {
	Version int64    // of the database, 0 for none
	Known   int64    // the newest migration of this binary
	Pending []string // files not yet applied, oldest first
}

// Newer reports whether the database has migrations that this binary doesn't know. It
// is expected during a rollout, when old code runs on the new schema.
func (s Schema) Newer() bool { return s.Version > s.Known }

// Migrate applies the pending goose migrations (*.sql at the top of migrations), each
// in its own transaction, under an advisory lock: of several replicas one migrates,
// and the others wait for it, until ctx ends, and find nothing to do. A database that
// is newer than the binary is not changed, and a warning is logged. No statement
// timeout applies, but the lock timeout does: a migration fails rather than block all
// later statements while it waits for a long transaction.
func Migrate(ctx context.Context, db *DB, migrations fs.FS) error {
	pool, unlock := lockedPool(db)
	defer unlock()
	p, err := provider(pool, migrations)
	if err != nil || p == nil {
		return err
	}
	applied, err := p.Up(ctx)
	for _, r := range applied {
		db.log.InfoContext(ctx, "applied migration", "file", path.Base(r.Source.Path), "took", r.Duration)
	}
	if err != nil {
		return fmt.Errorf("postgres: migrate: %w", err)
	}
	schema, err := status(ctx, p)
	if err != nil {
		return err
	}
	if schema.Newer() {
		db.log.WarnContext(ctx, "the database schema is newer than this program", "database", schema.Version,
			"program", schema.Known)
	}
	return nil
}

// Down reverts the newest migration.
func Down(ctx context.Context, db *DB, migrations fs.FS) error {
	pool, unlock := lockedPool(db)
	defer unlock()
	p, err := provider(pool, migrations)
	if err != nil || p == nil {
		return err
	}
	if _, err := p.Down(ctx); err != nil {
		return fmt.Errorf("postgres: migrate down: %w", err)
	}
	return nil
}

// Status compares the database with the migrations. It changes nothing, except that
// it creates goose's own table when it is missing.
func Status(ctx context.Context, db *DB, migrations fs.FS) (Schema, error) {
	p, err := provider(db.sql, migrations)
	if err != nil || p == nil {
		return Schema{}, err
	}
	return status(ctx, p)
}

func status(ctx context.Context, p *goose.Provider) (Schema, error) {
	var s Schema
	all, err := p.Status(ctx)
	if err != nil {
		return s, fmt.Errorf("postgres: migration status: %w", err)
	}
	for _, m := range all {
		s.Known = max(s.Known, m.Source.Version)
		if m.State == goose.StatePending {
			s.Pending = append(s.Pending, path.Base(m.Source.Path))
		}
	}
	if s.Version, err = p.GetDBVersion(ctx); err != nil {
		return s, fmt.Errorf("postgres: migration status: %w", err)
	}
	return s, nil
}

// provider returns nil when there are no migrations at all.
func provider(pool *sql.DB, migrations fs.FS) (*goose.Provider, error) {
	if names, err := fs.Glob(migrations, "*.sql"); err != nil || len(names) == 0 {
		return nil, err
	}
	p, err := goose.NewProvider(goose.DialectPostgres, pool, migrations,
		goose.WithDisableGlobalRegistry(true),
		goose.WithVerbose(false))
	if err != nil {
		return nil, fmt.Errorf("postgres: migrations: %w", err)
	}
	return p, nil
}

// lockedPool returns a pool of one connection, which takes the migration lock before
// its first statement and has no statement timeout. Goose's own locking starts too
// late: goose creates its table before it, which several replicas would do at once,
// and under the service's timeouts.
func lockedPool(db *DB) (pool *sql.DB, unlock func()) {
	pool = stdlib.OpenDB(*db.config, stdlib.OptionAfterConnect(func(ctx context.Context, c *pgx.Conn) error {
		for _, statement := range []string{
			`SET statement_timeout = 0`,
			`SET lock_timeout = 0`,
			fmt.Sprintf(`SELECT pg_advisory_lock(%d)`, migrationLock), // waits in the server, until ctx ends
			`RESET lock_timeout`,
		} {
			if _, err := c.Exec(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	}))
	pool.SetMaxOpenConns(1)
	return pool, func() {
		defer func() { _ = pool.Close() }()
		if pool.Stats().OpenConnections == 0 {
			return
		}
		// Closing releases the lock too, but not behind a PgBouncer.
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_, _ = pool.ExecContext(ctx, fmt.Sprintf(`SELECT pg_advisory_unlock(%d)`, migrationLock))
		_, _ = pool.ExecContext(ctx, `RESET statement_timeout`)
	}
}
