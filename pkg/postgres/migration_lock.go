package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

const (
	// migrationLock is the advisory lock that a migration holds. Advisory locks are per
	// database, so services don't wait for each other.
	migrationLock int64 = 0x7075727365720001
	// lockReportInterval is how often the wait for it is logged.
	lockReportInterval = 10 * time.Second
)

// ErrMigrationLocked is returned when another migration didn't end in time. The error
// says whose.
var ErrMigrationLocked = errors.New("postgres: another migration of this database holds the lock")

var errMigrateByPooler = errors.New("postgres: migrations need a connection to the server itself, not by " +
	"PgBouncer, where the lock of a migration would stay with the server's connection")

// mayMigrate returns an error when the lock of a migration would not hold: behind a pooler
// in transaction mode, whether Options says so or not.
func (d *DB) mayMigrate(ctx context.Context) error {
	if d.pgBouncer {
		return errMigrateByPooler
	}
	return d.checkPooler(ctx)
}

// lockedPool returns a pool of one connection, which takes the migration lock before
// its first statement and has no statement timeout. Goose's own locking starts too
// late: goose creates its table before it, which several replicas would do at once,
// and under the service's timeouts.
func lockedPool(db *DB) (pool *sql.DB, unlock func()) {
	take := func(ctx context.Context, c *pgx.Conn) error {
		if _, err := c.Exec(ctx, `SET statement_timeout = 0`); err != nil {
			return err
		}
		if err := db.lockMigrations(ctx, c); err != nil {
			return err
		}
		_, err := c.Exec(ctx, `RESET lock_timeout`)
		return err
	}
	pool = stdlib.OpenDB(*db.config, stdlib.OptionBeforeConnect(db.hosts.order), stdlib.OptionAfterConnect(take))
	pool.SetMaxOpenConns(1)
	return pool, func() { _ = pool.Close() } // which releases the lock
}

// lockMigrations takes the lock. The server waits, so that waiters get it in order.
func (d *DB) lockMigrations(ctx context.Context, c *pgx.Conn) error {
	end := time.Now().Add(d.migrationLockTimeout)
	for {
		wait := min(time.Until(end), lockReportInterval)
		if wait < time.Millisecond {
			return fmt.Errorf("%w for %s: %s", ErrMigrationLocked, d.migrationLockTimeout, lockHolder(ctx, c))
		}
		if _, err := c.Exec(ctx, "SET lock_timeout = "+milliseconds(wait)); err != nil {
			return err
		}
		_, err := c.Exec(ctx, `SELECT pg_advisory_lock($1)`, migrationLock)
		var answer *pgconn.PgError
		if !errors.As(err, &answer) || answer.Code != "55P03" {
			return err
		}
		d.log.WarnContext(ctx, "waiting for another migration", "holder", lockHolder(ctx, c),
			"remaining", time.Until(end).Round(time.Second))
	}
}

// lockHolder describes the session that holds the lock.
func lockHolder(ctx context.Context, c *pgx.Conn) string {
	var holder string
	err := c.QueryRow(ctx, `SELECT format('%s from %s, process %s, connected since %s, %s',
			coalesce(nullif(a.application_name, ''), 'a session without a name'),
			coalesce(host(a.client_addr), 'a local socket'), a.pid,
			to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"'), a.state)
		FROM pg_locks l JOIN pg_stat_activity a USING (pid)
		WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
			AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
			AND (l.classid::bigint << 32 | l.objid::bigint) = $1`, migrationLock).Scan(&holder)
	if err != nil {
		return "unknown"
	}
	return holder
}
