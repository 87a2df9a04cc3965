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

var errPool = errors.New("postgres: every connection of the pool is in use")

// IsUnavailable reports whether err says that the database can't be reached or
// takes no work now, so that the same call may succeed later: no connection or
// a lost one, a server that starts or shuts down, too many connections, a pool
// that is used up, a statement that was prepared before a migration changed what
// it returns. The caller's own deadline or cancellation is not that,
// except while connecting.
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
		return strings.HasPrefix(answer.Code, "08") || outdated(answer)
	}
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) || errors.Is(err, errPool) || unsent(err) {
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

// unsent reports whether nothing of a statement reached the server, because
// the connection was found dead when it was to be used.
func unsent(err error) bool {
	return errors.Is(err, driver.ErrBadConn) || pgconn.SafeToRetry(err)
}

// IsUniqueViolation reports whether err is a duplicate in the named unique
// constraint or index; an empty name matches any.
func IsUniqueViolation(err error, constraint string) bool {
	var answer *pgconn.PgError
	return errors.As(err, &answer) && answer.Code == "23505" &&
		(constraint == "" || answer.ConstraintName == constraint)
}

func retryable(err error) bool {
	var answer *pgconn.PgError
	return errors.As(err, &answer) && (answer.Code == "40001" || answer.Code == "40P01" || outdated(answer))
}

// outdated reports whether a statement of the connection's cache met a table that
// got a column since. The driver has dropped it by then.
func outdated(answer *pgconn.PgError) bool {
	return answer.Code == "0A000" && strings.HasPrefix(answer.Message, "cached plan must not change")
}
