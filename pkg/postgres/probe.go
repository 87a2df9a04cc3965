package postgres

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/purserhq/purser/pkg/errs"
)

// Probe asks whether the database works for this process, within ctx. It first makes
// a connection of its own, so that it neither waits for the pool nor believes a
// connection that was made long ago, and then takes one of the pool. It returns nil,
// or an error as of Translate; an *errs.Error with one of these reasons:
//
//   - DATABASE_POOLER: see Accepts;
//   - DATABASE_READ_ONLY: the server is a standby, or takes no writes;
//   - DATABASE_POOL_EXHAUSTED: the server answers, but no connection of the pool was
//     free in time;
//   - DATABASE_POOL_STALLED: the server answers, but a connection of the pool doesn't.
//
// It is for a check every few seconds, not for every request. It makes no spans.
func (d *DB) Probe(ctx context.Context) error {
	readOnly, err := d.ask(ctx)
	if err != nil {
		return err
	}
	if readOnly {
		return readOnlyError(nil)
	}
	return d.askPool(ctx)
}

// Address is where the server is, host:port, or the folder of its socket; of a URL with several hosts all of them,
// separated by commas.
func (d *DB) Address() string {
	var all []string
	for _, f := range hostsOf(d.config) {
		if a := net.JoinHostPort(f.Host, strconv.Itoa(int(f.Port))); !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	return strings.Join(all, ",")
}

// dial makes a connection that is not of the pool.
func (d *DB) dial(ctx context.Context) (*pgconn.PgConn, error) {
	config := d.config.Copy()
	if err := d.hosts.order(ctx, config); err != nil {
		return nil, err
	}
	return pgconn.ConnectConfig(ctx, &config.Config)
}

// ask makes a connection, and reports whether its transactions are read-only.
func (d *DB) ask(ctx context.Context) (readOnly bool, err error) {
	conn, err := d.dial(ctx)
	var failed *pgconn.ConnectError
	if errors.As(err, &failed) && failed.Unwrap() != nil {
		err = failed.Unwrap() // without the names of the user and the database
	}
	if err != nil {
		return false, fmt.Errorf("postgres: %w", withPooler(err))
	}
	defer func() { _ = conn.Close(ctx) }()
	value, err := ask(ctx, conn, "SHOW transaction_read_only")
	return value == "on", err
}

// askPool takes a connection of the pool and asks it. One that doesn't answer is
// closed.
func (d *DB) askPool(ctx context.Context) error {
	conn, err := d.sql.Conn(ctx)
	if err != nil {
		if s := d.sql.Stats(); s.InUse >= s.MaxOpenConnections {
			return errs.Unavailable("DATABASE_POOL_EXHAUSTED", fmt.Sprintf(
				"the database answers, but all %d connections of the pool were in use", s.MaxOpenConnections)).
				Because(err)
		}
		return stalled(err)
	}
	defer conn.Close()
	var failed error
	err = conn.Raw(func(c any) error {
		if failed = c.(*stdlib.Conn).Conn().PgConn().Ping(ctx); failed != nil {
			return driver.ErrBadConn
		}
		return nil
	})
	if err = errors.Join(failed, err); err != nil {
		return stalled(err)
	}
	return nil
}

func stalled(cause error) error {
	return errs.Unavailable("DATABASE_POOL_STALLED", "the database answers, but a connection of the pool doesn't").
		Because(cause)
}

func readOnlyError(cause error) *errs.Error {
	return errs.Unavailable("DATABASE_READ_ONLY", "the database takes no writes now").Because(cause)
}
