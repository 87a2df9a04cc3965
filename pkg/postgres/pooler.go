package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/purserhq/purser/pkg/errs"
)

const (
	// poolerRounds is how often the two connections are asked whose server's connection
	// they have.
	poolerRounds = 8
	// poolerTimeout bounds one question; a pooler in session mode may have no connection
	// for the second.
	poolerTimeout = time.Second
)

// Accepts asks at the start whether the database works for this process, as Probe does,
// and whether what Options says of a pooler is true. errs.Unavailable (DATABASE_POOLER) if
// connections go by one although PgBouncer isn't set: one that refuses the settings of a
// connection, gives the server's connection to others between two transactions, so that a
// prepared statement is missing once in a while, or drops the timeouts.
func (d *DB) Accepts(ctx context.Context) error {
	pooler := make(chan error, 1)
	go func() { pooler <- d.checkPooler(ctx) }() // beside the other, since a connection takes its time
	err, poolerErr := d.Probe(ctx), <-pooler
	if err != nil {
		return err
	}
	return poolerErr
}

func poolerError(what string) *errs.Error {
	return errs.Unavailable("DATABASE_POOLER", "connections go through a pooler that "+what+
		": set PURSER_DATABASE_PGBOUNCER=true, and for migrations PURSER_MIGRATE_DATABASE_URL")
}

// withPooler names the setting where a pooler refused the settings of a connection.
func withPooler(err error) error {
	var answer *pgconn.PgError
	if errors.As(err, &answer) && answer.Code == "08P01" &&
		strings.HasPrefix(answer.Message, "unsupported startup parameter") {
		return poolerError("refuses the settings of a connection").Because(err)
	}
	return err
}

// checkPooler compares the process of the server that a connection was told of with the
// one that answers it. They are the same without a pooler, which makes up its own. It is
// one in transaction mode if two connections are answered by the same process, or one by
// two of them.
func (d *DB) checkPooler(ctx context.Context) error {
	if d.pgBouncer {
		return nil
	}
	first, err := d.dial(ctx)
	if err != nil {
		return fmt.Errorf("postgres: %w", withPooler(err))
	}
	defer func() { _ = first.Close(ctx) }()
	process, err := ask(ctx, first, "SELECT pg_backend_pid()")
	if err != nil || process == strconv.FormatUint(uint64(first.PID()), 10) {
		return err
	}
	second, err := d.dial(ctx)
	if err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	defer func() { _ = second.Close(ctx) }()
	for range poolerRounds {
		other, err := askWithin(ctx, second, poolerTimeout, "SELECT pg_backend_pid()")
		if err != nil {
			break // the first keeps the only connection: session mode
		}
		again, err := ask(ctx, first, "SELECT pg_backend_pid()")
		if err != nil {
			return err
		}
		if other == process || again != process {
			return poolerError("gives a connection to others after each transaction")
		}
	}
	timeout, err := ask(ctx, first, "SELECT setting FROM pg_settings WHERE name = 'statement_timeout'")
	if err == nil && timeout != d.config.RuntimeParams["statement_timeout"] {
		err = poolerError("drops the settings of a connection, the timeouts above all")
	}
	return err
}

// ask returns the one value that a statement reads.
func ask(ctx context.Context, conn *pgconn.PgConn, statement string) (string, error) {
	results, err := conn.Exec(ctx, statement).ReadAll()
	if err != nil {
		return "", fmt.Errorf("postgres: %w", err)
	}
	if len(results) != 1 || len(results[0].Rows) != 1 {
		return "", errors.New("postgres: the server doesn't answer as expected")
	}
	return string(results[0].Rows[0][0]), nil
}

func askWithin(ctx context.Context, conn *pgconn.PgConn, limit time.Duration, statement string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return ask(ctx, conn, statement)
}
