package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"path"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// migrationLock is the advisory lock under which schemas change. Advisory
// locks are per database, so services don't wait for each other.
const migrationLock int64 = 0x7075727365720001

// Schema is where a database stands against the migrations of this binary.
type Schema struct {
	Version int64    // of the database, 0 for none
	Known   int64    // the newest that this binary carries
	Pending []string // files not yet applied, oldest first
}

// Newer reports whether the database is ahead of this binary, which is right
// during a rollout: old code runs on the schema after it.
func (s Schema) Newer() bool { return s.Version > s.Known }

// Migrate applies the pending goose migrations (*.sql at the top of
// migrations), each in its own transaction, under an advisory lock: of several
// replicas that start together one migrates and the others find nothing to do.
// A database that is newer than the binary is left alone and logged. No
// statement timeout applies; the lock timeout does, so a migration that would
// queue behind a long transaction, and everything else behind it, fails
// instead.
func Migrate(ctx context.Context, db *DB, migrations fs.FS) error {
	p, err := provider(db, migrations)
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
		db.log.WarnContext(ctx, "the database schema is newer than this program", "database", schema.Version, "program", schema.Known)
	}
	return nil
}

// Down takes the newest migration back.
func Down(ctx context.Context, db *DB, migrations fs.FS) error {
	p, err := provider(db, migrations)
	if err != nil || p == nil {
		return err
	}
	if _, err := p.Down(ctx); err != nil {
		return fmt.Errorf("postgres: migrate down: %w", err)
	}
	return nil
}

// Status compares the database with the migrations and changes nothing but
// goose's own table, which it makes when missing.
func Status(ctx context.Context, db *DB, migrations fs.FS) (Schema, error) {
	p, err := provider(db, migrations)
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
func provider(db *DB, migrations fs.FS) (*goose.Provider, error) {
	if names, err := fs.Glob(migrations, "*.sql"); err != nil || len(names) == 0 {
		return nil, err
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db.sql, migrations,
		goose.WithSessionLocker(sessionLock{}),
		goose.WithDisableGlobalRegistry(true),
		goose.WithVerbose(false))
	if err != nil {
		return nil, fmt.Errorf("postgres: migrations: %w", err)
	}
	return p, nil
}

// sessionLock waits in the server until the lock is free, where goose's own
// asks once a second.
type sessionLock struct{}

var _ lock.SessionLocker = sessionLock{}

func (sessionLock) SessionLock(ctx context.Context, conn *sql.Conn) error {
	for _, statement := range []string{
		`SET statement_timeout = 0`,
		`SET lock_timeout = 0`,
		fmt.Sprintf(`SELECT pg_advisory_lock(%d)`, migrationLock),
		`RESET lock_timeout`,
	} {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

func (sessionLock) SessionUnlock(ctx context.Context, conn *sql.Conn) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	for _, statement := range []string{
		fmt.Sprintf(`SELECT pg_advisory_unlock(%d)`, migrationLock),
		`RESET statement_timeout`,
	} {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}
