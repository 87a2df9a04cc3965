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
		changed                        = "another call changed the same data at the same time; read it again and retry"
		away                           = "the database is unavailable"
	)
	return []state{
		{code: "08", kind: unavailable, reason: "DATABASE_UNAVAILABLE", message: away}, // connection
		// Only text that a caller sent can have U+0000 or be no UTF-8.
		{code: "22021", kind: invalid, reason: "TEXT_NOT_STORABLE", message: "a text has a character that can't be stored"},
		{code: "22P05", kind: invalid, reason: "TEXT_NOT_STORABLE", message: "a text has a character that can't be stored"},
		// Stores answer what they expect themselves. The others come from two calls at once.
		{code: "23503", kind: conflict, reason: "DATABASE_CONFLICT", message: changed}, // foreign key
		{code: "23505", kind: conflict, reason: "DATABASE_CONFLICT", message: changed}, // unique
		{code: "23P01", kind: conflict, reason: "DATABASE_CONFLICT", message: changed}, // exclusion
		// A standby, also the former primary after a failover.
		{code: "25006", kind: unavailable, reason: "DATABASE_READ_ONLY", message: "the database takes no writes now"},
		{code: "25P03", kind: unavailable, reason: busy, message: "a transaction of the database timed out"}, // idle
		{code: "25P04", kind: unavailable, reason: busy, message: "a transaction of the database timed out"},
		{code: "28", kind: unavailable, reason: "DATABASE_CREDENTIALS", message: "the database refuses the service"},
		{code: "3D000", kind: unavailable, reason: "DATABASE_MISSING", message: "the service's database doesn't exist"},
		{code: "40001", kind: conflict, reason: "DATABASE_CONFLICT", message: changed, retry: true}, // serialization
		{code: "40P01", kind: conflict, reason: "DATABASE_CONFLICT", message: changed, retry: true}, // deadlock
		{code: "53", kind: unavailable, reason: "DATABASE_EXHAUSTED", message: "the database lacks resources"},
		{code: "53100", kind: unavailable, reason: "DATABASE_DISK_FULL", message: "the disk of the database is full"},
		{code: "53200", kind: unavailable, reason: "DATABASE_OUT_OF_MEMORY", message: "the database has no memory left"},
		{code: "53300", kind: unavailable, reason: "DATABASE_UNAVAILABLE", message: "the database has too many connections"},
		{code: "55P03", kind: unavailable, reason: busy, message: "a statement of the database timed out"}, // lock
		{code: "57014", kind: unavailable, reason: busy, message: "a statement of the database timed out"}, // cancelled
		{code: "57P", kind: unavailable, reason: "DATABASE_UNAVAILABLE", message: away},                    // starts, stops
		{code: "58", kind: unavailable, reason: "DATABASE_SYSTEM_ERROR", message: "the database's machine fails"},
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
	if !errors.As(err, &answer) {
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
