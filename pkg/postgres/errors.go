package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"

	"github.com/jackc/pgx/v5/pgconn"
)

var errPool = errors.New("postgres: all connections of the pool are in use")

// isConnectionLost reports whether err, which is no answer of the server, means that
// there is no connection to it. It is false for the caller's own deadline or
// cancellation, except while connecting.
func isConnectionLost(err error) bool {
	if err == nil {
		return false
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
