package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/deadline"
	"github.com/purserhq/purser/pkg/errs"
)

const (
	beginAttempts = 3
	txAttempts    = 5
	txBackoff     = 5 * time.Millisecond // doubled each time, half of it random
)

// ErrCommitUnknown is returned when the connection was lost during the commit: the
// transaction may or may not be committed. It is also returned, as errs.Unavailable, when
// the wait for a synchronous standby was cancelled on the server: the transaction is
// committed then, and lost if the primary is. It is not retried.
var ErrCommitUnknown = errors.New("postgres: it is unknown whether the transaction was committed")

// TxOption is an option of the transaction that InTx begins.
type TxOption func(*sql.TxOptions)

// Serializable sets serializable isolation.
func Serializable(o *sql.TxOptions) { o.Isolation = sql.LevelSerializable }

// RepeatableRead makes all statements of the transaction read one snapshot.
func RepeatableRead(o *sql.TxOptions) { o.Isolation = sql.LevelRepeatableRead }

// ReadOnly forbids writes.
func ReadOnly(o *sql.TxOptions) { o.ReadOnly = true }

// InTx runs fn in a transaction on one connection, at read committed by default, and
// commits when fn returns nil. After a serialization failure (40001) or a deadlock
// (40P01) it runs fn again, at most five times in all; after a prepared statement whose
// result columns a migration has changed, at most once more for each connection: effects
// of fn outside tx must be idempotent. It returns other errors, also fn's, unchanged.
// Don't use tx after fn has returned or from two goroutines at once.
func InTx(ctx context.Context, db *DB, fn func(tx *gorm.DB) error, options ...TxOption) error {
	var o sql.TxOptions
	for _, option := range options {
		option(&o)
	}
	wait := txBackoff
	stale := 0 // attempts on a connection that has prepared its statements before a migration
	for attempt := 1; ; attempt++ {
		err := inTxOnce(ctx, db, &o, fn)
		if hasStalePlan(err) && stale < db.connections {
			attempt, stale = attempt-1, stale+1
			continue
		}
		if err == nil || attempt == txAttempts || !isRetryable(err) {
			return err
		}
		if deadline.Pause(ctx, wait/2+rand.N(wait)) != nil {
			return err
		}
		wait *= 2
	}
}

func inTxOnce(ctx context.Context, db *DB, o *sql.TxOptions, fn func(*gorm.DB) error) (err error) {
	conn, tx, err := db.begin(ctx, o)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer func() {
		if hasStalePlan(err) {
			forgetStatements(ctx, conn)
		}
	}()
	// After a commit the rollback does nothing.
	defer func() { _ = tx.Rollback() }()
	if db.beginning != "" {
		if _, err := tx.ExecContext(ctx, db.beginning); err != nil {
			return fmt.Errorf("postgres: begin: %w", err)
		}
	}
	g := db.gorm.Session(&gorm.Session{NewDB: true, Context: ctx})
	g.Statement.ConnPool = &txPool{Tx: tx, conn: conn}
	if err := fn(g); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		if errors.Is(err, sql.ErrTxDone) && ctx.Err() != nil { // it was rolled back when ctx ended
			return fmt.Errorf("postgres: commit: %w", ctx.Err())
		}
		if isCommitRefused(err) || errors.Is(err, sql.ErrTxDone) {
			return fmt.Errorf("postgres: commit: %w", err)
		}
		return fmt.Errorf("%w: %w", ErrCommitUnknown, err)
	}
	return unreplicated(conn)
}

// forgetStatements makes a connection prepare all of its statements again: a transaction has several, and the driver
// forgets only the one that failed. A connection that can't is closed.
func forgetStatements(ctx context.Context, conn *sql.Conn) {
	_ = conn.Raw(func(c any) error {
		if err := c.(*stdlib.Conn).Conn().DeallocateAll(ctx); err != nil {
			return driver.ErrBadConn
		}
		return nil
	})
}

// gaveUpReplication is where a connection keeps that the server gave up the wait for a
// synchronous standby.
const gaveUpReplication = "purser: committed here alone"

// noteUnreplicated keeps that a commit is on the primary alone: when a cancellation ends
// the wait for a synchronous standby, the server answers that it has committed, with a
// warning. The text of the warning depends on the server's language,
// the name of its function doesn't.
func noteUnreplicated(c *pgconn.PgConn, n *pgconn.Notice) {
	if n.Routine == "SyncRepWaitForLSN" {
		c.CustomData()[gaveUpReplication] = true
	}
}

// unreplicated returns ErrCommitUnknown if the last commit of a connection is on the
// primary alone.
func unreplicated(conn *sql.Conn) error {
	var alone bool
	err := conn.Raw(func(c any) error {
		data := c.(*stdlib.Conn).Conn().PgConn().CustomData()
		alone = data[gaveUpReplication] == true
		delete(data, gaveUpReplication)
		return nil
	})
	if err != nil || !alone {
		return nil //nolint:nilerr // a connection that was closed since has nothing to tell
	}
	return fmt.Errorf("%w: %w", ErrCommitUnknown,
		errs.Unavailable(unavailable, "the database could not store the change safely"))
}

// isCommitRefused reports whether the server answered that it did not commit. It
// ends a connection with an error of severity FATAL, for example at its shutdown
// (57P01), also after it has committed and before the caller has learned of it.
func isCommitRefused(err error) bool {
	var answer *pgconn.PgError
	return errors.As(err, &answer) && answer.SeverityUnlocalized == "ERROR"
}

// begin opens a transaction on a connection of its own. It takes another connection
// when the first turns out to be closed, as after a restart of the server.
func (d *DB) begin(ctx context.Context, o *sql.TxOptions) (*sql.Conn, *sql.Tx, error) {
	for attempt := 1; ; attempt++ {
		conn, err := d.conn(ctx)
		if err != nil {
			return nil, nil, err
		}
		tx, err := conn.BeginTx(ctx, o)
		if err == nil {
			return conn, tx, nil
		}
		_ = conn.Close()
		if attempt == beginAttempts || !isUnsent(err) || ctx.Err() != nil {
			return nil, nil, fmt.Errorf("postgres: begin: %w", err)
		}
	}
}

// conn takes a connection from the pool and waits for one at most PoolTimeout.
func (d *DB) conn(ctx context.Context) (*sql.Conn, error) {
	limited, cancel := context.WithTimeoutCause(ctx, d.poolTimeout, errPool)
	defer cancel()
	conn, err := d.sql.Conn(limited)
	if err == nil {
		return conn, nil
	}
	if ctx.Err() == nil && errors.Is(context.Cause(limited), errPool) {
		return nil, errPool
	}
	return nil, fmt.Errorf("postgres: %w", err)
}

// txPool is gorm's connection pool of a transaction. It has the connection, which
// sql.Tx doesn't expose.
type txPool struct {
	*sql.Tx
	conn *sql.Conn
}

// Raw calls fn with the pgx connection of tx, for COPY and batches, which are then
// part of the transaction. tx must come from InTx. Don't use the connection after fn
// has returned.
func Raw(tx *gorm.DB, fn func(*pgx.Conn) error) error {
	pool, ok := tx.Statement.ConnPool.(*txPool)
	if !ok {
		return errors.New("postgres: Raw needs a transaction of InTx")
	}
	return pool.conn.Raw(func(driver any) error { return fn(driver.(*stdlib.Conn).Conn()) })
}
