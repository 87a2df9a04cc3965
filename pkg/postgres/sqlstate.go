package postgres

import (
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/purserhq/purser/pkg/errs"
)

// state says what an error of the server means for whoever called the service.
type state struct {
	// code is an SQLSTATE of five characters, or the two of its class.
	code    string
	kind    errs.Kind
	reason  string
	message string
	// retry says that InTx runs the transaction again.
	retry bool
	// discard says that the connection is closed, because the next statement on it would
	// fail as well. The driver closes one itself when the server ends the session.
	discard bool
}

const busy = "DATABASE_BUSY"

// states returns the table of all SQLSTATE that are not faults of the service: the
// longest code that an error begins with counts. What isn't listed stays an
// unclassified error, which callers see as INTERNAL: above all 22 (data, which was
// validated before), 42 (a statement that is wrong, a table or a right that is
// missing), and XX (a defect of the server or of its files).
//
// Source: PostgreSQL documentation, appendix A.
func states() []state {
	const (
		invalid, conflict, unavailable = errs.KindInvalid, errs.KindConflict, errs.KindUnavailable

		changed  = "another call changed the same data at the same time; read it again and retry"
		away     = "the database is unavailable"
		badText  = "a text has a character that can't be stored"
		timedOut = "a statement or a transaction of the database timed out"
	)
	return []state{
		{"08", unavailable, "DATABASE_UNAVAILABLE", away, false, false}, // connection
		// Only text that a caller sent can have U+0000 or be no UTF-8.
		{"22021", invalid, "TEXT_NOT_STORABLE", badText, false, false},
		{"22P05", invalid, "TEXT_NOT_STORABLE", badText, false, false},
		// Stores answer what they expect themselves. The others come from two calls at once.
		{"23503", conflict, "DATABASE_CONFLICT", changed, false, false}, // foreign key
		{"23505", conflict, "DATABASE_CONFLICT", changed, false, false}, // unique
		{"23P01", conflict, "DATABASE_CONFLICT", changed, false, false}, // exclusion
		// A standby, also the former primary after a failover. With several hosts and
		// target_session_attrs=read-write the next connection is one to the primary.
		{"25006", unavailable, "DATABASE_READ_ONLY", "the database takes no writes now", false, true},
		{"25P03", unavailable, busy, timedOut, false, false}, // a transaction that was idle
		{"25P04", unavailable, busy, timedOut, false, false}, // a transaction
		{"28", unavailable, "DATABASE_CREDENTIALS", "the database refuses the service", false, false},
		{"3D000", unavailable, "DATABASE_MISSING", "the service's database doesn't exist", false, false},
		{"40001", conflict, "DATABASE_CONFLICT", changed, true, false}, // serialization failure
		{"40P01", conflict, "DATABASE_CONFLICT", changed, true, false}, // deadlock
		{"53", unavailable, "DATABASE_EXHAUSTED", "the database lacks resources", false, false},
		{"53100", unavailable, "DATABASE_DISK_FULL", "the disk of the database is full", false, false},
		{"53200", unavailable, "DATABASE_OUT_OF_MEMORY", "the database has no memory left", false, false},
		{"53300", unavailable, "DATABASE_UNAVAILABLE", "the database has too many connections", false, false},
		{"55P03", unavailable, busy, timedOut, false, false},             // a lock
		{"57014", unavailable, busy, timedOut, false, false},             // a statement
		{"57P", unavailable, "DATABASE_UNAVAILABLE", away, false, false}, // it starts or stops
		{"58", unavailable, "DATABASE_SYSTEM_ERROR", "the machine of the database fails", false, false},
	}
}

// byCode has the states by their codes.
var byCode = func() map[string]state {
	m := map[string]state{}
	for _, s := range states() {
		m[s.code] = s
	}
	return m
}()

// stateOf returns what an answer of the server means, false when it is a fault of the
// service.
func stateOf(answer *pgconn.PgError) (state, bool) {
	if isStalePlan(answer) {
		return state{kind: errs.KindUnavailable, reason: "DATABASE_UNAVAILABLE",
			message: "the database was changed meanwhile", retry: true}, true
	}
	for n := len(answer.Code); n >= 2; n-- {
		if s, ok := byCode[answer.Code[:n]]; ok {
			return s, true
		}
	}
	return state{}, false
}

// refuses reports whether the server answered an attempt to connect with a reason that
// doesn't pass by itself: wrong credentials, a database that isn't there, or settings
// that it doesn't know.
func refuses(err error) bool {
	var answer *pgconn.PgError
	if !errors.As(err, &answer) {
		return false
	}
	s, ok := stateOf(answer)
	return !ok || s.reason == "DATABASE_CREDENTIALS" || s.reason == "DATABASE_MISSING" || answer.Code == "08P01"
}

// keeps reports whether a connection may be used after an answer of the server.
func keeps(answer *pgconn.PgError) bool {
	s, ok := stateOf(answer)
	return !ok || !s.discard
}

// Translate returns err as an *errs.Error if it comes from the database and is not a
// fault of the service: one of the server by the table of SQLSTATE, which
// docs/outages.md shows, and errs.Unavailable (DATABASE_UNAVAILABLE) for one of the
// connection or the pool. It returns every other error unchanged, also one that is
// an *errs.Error already.
func Translate(err error) error {
	if err == nil || errs.As(err) != nil {
		return err
	}
	var answer *pgconn.PgError
	if errors.As(err, &answer) {
		s, ok := stateOf(answer)
		if !ok {
			return err
		}
		e := errs.Error{Kind: s.kind, Reason: s.reason, Message: s.message}
		if s.kind == errs.KindUnavailable {
			e = *errs.Unavailable(s.reason, s.message)
		}
		return e.Because(err)
	}
	if isConnectionLost(err) {
		return errs.Unavailable("DATABASE_UNAVAILABLE", "the database is unavailable").Because(err)
	}
	return err
}

// IsUnavailable reports whether err means that the database can't be reached or
// accepts no work now, so that the same call may succeed later: no connection or a
// lost one, a server that starts or shuts down, is a standby or lacks resources, an
// exhausted pool, or a statement that was prepared before a migration changed its
// result columns. It is false for a timeout of a statement or a lock, and for the
// caller's own deadline or cancellation, except while connecting.
func IsUnavailable(err error) bool {
	var answer *pgconn.PgError
	if errors.As(err, &answer) {
		s, ok := stateOf(answer)
		return ok && s.kind == errs.KindUnavailable && s.reason != busy
	}
	return isConnectionLost(err)
}

// isRetryable reports whether the transaction of err may be run again.
func isRetryable(err error) bool {
	var answer *pgconn.PgError
	if errors.Is(err, ErrCommitUnknown) || !errors.As(err, &answer) {
		return false
	}
	s, ok := stateOf(answer)
	return ok && s.retry
}

// isStalePlan reports whether a cached prepared statement failed because a migration
// has changed its result columns. The driver has removed it from its cache.
func isStalePlan(answer *pgconn.PgError) bool {
	return answer.Code == "0A000" && strings.HasPrefix(answer.Message, "cached plan must not change")
}
