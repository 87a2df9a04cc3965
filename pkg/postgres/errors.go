package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

var errPool = errors.New("postgres: all connections of the pool are in use")

// IsUnavailable reports whether err means that the database can't be reached or
// accepts no work now, so that the same call may succeed later: no connection or a
// lost one, a server that starts or shuts down, too many connections, an exhausted
// pool, or a statement that was prepared before a migration changed its result
// columns. It is false for the caller's own deadline or cancellation, except while
// connecting.
func IsUnavailable(err error) bool {
	if err == nil {
		return false
	}
	var answer *pgconn.PgError
	if errors.As(err, &answer) {
		switch answer.Code {
		case "57P01", "57P02", "57P03", "53300":
			return true
		}
		return strings.HasPrefix(answer.Code, "08") || isStalePlan(answer)
	}
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) || errors.Is(err, errPool) || isUnsent(err) {
		return true
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	var network net.Error
	return errors.As(err, &network) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone)
}

// isUnsent reports whether the statement was not sent because the connection turned
// out to be closed.
func isUnsent(err error) bool {
	return errors.Is(err, driver.ErrBadConn) || pgconn.SafeToRetry(err)
}

// IsUniqueViolation reports whether err is a violation of the named unique constraint
// or index; "" matches any.
func IsUniqueViolation(err error, constraint string) bool {
	var answer *pgconn.PgError
	return errors.As(err, &answer) && answer.Code == "23505" &&
		(constraint == "" || answer.ConstraintName == constraint)
}

// isRetryable reports whether the transaction of err may be run again.
func isRetryable(err error) bool {
	var answer *pgconn.PgError
	return errors.As(err, &answer) && (answer.Code == "40001" || answer.Code == "40P01" || isStalePlan(answer))
}

// isStalePlan reports whether a cached prepared statement failed because a migration
// has changed its result columns. The driver has removed it from its cache.
func isStalePlan(answer *pgconn.PgError) bool {
	return answer.Code == "0A000" && strings.HasPrefix(answer.Message, "cached plan must not change")
}
