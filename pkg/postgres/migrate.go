package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"path"

	"github.com/pressly/goose/v3"
)

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
// is newer than the binary is not changed, and a warning is logged. Programs that know
// the schema as it was before may start on the new one, see CheckSchema. No statement
// timeout applies, but the lock timeout does: a migration fails rather than block all
// later statements while it waits for a long transaction.
//
// It waits for the lock at most Options.MigrationLockTimeout, and logs who holds it.
// Behind a pooler in transaction mode the lock would stay with a connection of the
// server after the migration: give Options the server's own URL.
func Migrate(ctx context.Context, db *DB, migrations fs.FS) error {
	if err := db.mayMigrate(ctx); err != nil {
		return err
	}
	pool, unlock := lockedPool(db)
	defer unlock()
	p, err := provider(pool, migrations)
	if err != nil || p == nil {
		return err
	}
	before, err := status(ctx, p)
	if err == nil {
		err = noteSchema(ctx, pool, before)
	}
	if err != nil {
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
	if err := db.mayMigrate(ctx); err != nil {
		return err
	}
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
