package postgres

import (
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/purserhq/purser/pkg/errs"
)

// retry says who may repeat what an error of the server ended.
type retry string

const (
	never retry = "no"
	// later: the caller may repeat the call.
	later retry = "call"
	// atOnce: InTx runs the transaction again; after five times the caller may repeat the
	// call.
	atOnce retry = "transaction"
)

// state says what an error of the server means for whoever called the service.
type state struct {
	// code is an SQLSTATE of five characters, or the first of them: two are a class.
	code string
	what string
	kind errs.Kind
	// reason and message are for the caller; "" for a fault of the service.
	reason, message string
	retry           retry
	// discard says that the connection is closed, because the next statement on it would
	// fail as well. The driver closes one itself when the server ends the session.
	discard bool
	// operator is the reason for operators, where it differs from the caller's.
	operator string
}

const (
	busy        = "DATABASE_BUSY"
	unavailable = "DATABASE_UNAVAILABLE"
)

// states returns the table of all classes of SQLSTATE, and of those that differ from their
// class: the longest code that an error begins with counts. A fault of the service, which
// callers see as INTERNAL, is above all data that was validated before (22), a statement
// that is wrong or a table that is missing (42), and a defect of the server or of its
// files (XX). docs/outages.md shows the table.
//
// Source: PostgreSQL 18 documentation, appendix A.
func states() []state {
	const (
		changed  = "another call changed the same data at the same time; read it again and retry"
		away     = "the database is unavailable"
		badText  = "a text has a character that can't be stored"
		timedOut = "a statement or a transaction of the database timed out"
	)
	fault := func(code, what string) state { return state{code: code, what: what, retry: never} }
	down := func(code, what, reason, message string) state {
		return state{code: code, what: what, kind: errs.KindUnavailable, reason: reason, message: message,
			retry: later}
	}
	conflict := func(code, what string, r retry) state {
		return state{code: code, what: what, kind: errs.KindConflict, reason: "DATABASE_CONFLICT", message: changed,
			retry: r}
	}
	text := func(code, what string) state {
		return state{code: code, what: what, kind: errs.KindInvalid, reason: "TEXT_NOT_STORABLE", message: badText,
			retry: never}
	}
	discarding := func(s state) state { s.discard = true; return s }
	named := func(s state, operator string) state { s.operator = operator; return s }
	return []state{
		fault("00", "success"), fault("01", "warning"), fault("02", "no data"),
		fault("03", "SQL statement not yet complete"),
		discarding(down("08", "connection exception", unavailable, away)),
		fault("09", "triggered action exception"), fault("0A", "feature not supported"),
		fault("0B", "invalid transaction initiation"), fault("0F", "locator exception"),
		fault("0L", "invalid grantor"), fault("0P", "invalid role specification"),
		fault("0Z", "diagnostics exception"), fault("10", "XQuery error"), fault("20", "case not found"),
		fault("21", "cardinality violation"), fault("22", "data exception"),
		// Only text that a caller sent can have U+0000 or be no UTF-8.
		text("22021", "character not in repertoire"), text("22P05", "untranslatable character"),
		fault("23", "integrity constraint violation: not null, check"),
		// Stores answer what they expect themselves. The others come from two calls at once.
		conflict("23503", "foreign key violation", later), conflict("23505", "unique violation", later),
		conflict("23P01", "exclusion violation", later),
		fault("24", "invalid cursor state"), fault("25", "invalid transaction state"),
		// A standby, also the former primary after a failover. With several hosts and
		// target_session_attrs=read-write the next connection is one to the primary.
		discarding(down("25006", "read-only: a standby", "DATABASE_READ_ONLY", "the database takes no writes now")),
		down("25P03", "idle transaction timed out", busy, timedOut), down("25P04", "transaction timed out", busy,
			timedOut),
		// The server doesn't have what the driver prepared: a pooler gave the connection away.
		discarding(down("26", "invalid SQL statement name", unavailable, away)),
		fault("27", "triggered data change violation"),
		named(discarding(down("28", "invalid authorization: wrong login", unavailable, away)), "DATABASE_CREDENTIALS"),
		fault("2B", "dependent privileges still exist"), fault("2D", "invalid transaction termination"),
		fault("2F", "SQL routine exception"), fault("34", "invalid cursor name"),
		fault("38", "external routine exception"), fault("39", "external routine invocation exception"),
		fault("3B", "savepoint exception"),
		named(down("3D", "invalid catalog name: no such database", unavailable, away), "DATABASE_MISSING"),
		fault("3F", "invalid schema name"), fault("40", "transaction rollback"),
		conflict("40001", "serialization failure", atOnce), conflict("40P01", "deadlock", atOnce),
		discarding(down("40003", "statement completion unknown", unavailable, away)),
		fault("42", "syntax error or access rule violation"),
		discarding(down("42P05", "duplicate prepared statement", unavailable, away)),
		fault("44", "WITH CHECK OPTION violation"),
		down("53", "insufficient resources", "DATABASE_EXHAUSTED", "the database lacks resources"),
		down("53100", "disk full", "DATABASE_DISK_FULL", "the disk of the database is full"),
		down("53200", "out of memory", "DATABASE_OUT_OF_MEMORY", "the database has no memory left"),
		down("53300", "too many connections", unavailable, "the database has too many connections"),
		fault("54", "program limit exceeded"), fault("55", "object not in prerequisite state"),
		down("55P03", "lock not available", busy, timedOut),
		down("57", "operator intervention", unavailable, away),
		down("57014", "query canceled: statement timeout", busy, timedOut),
		discarding(down("57P", "it starts, stops or ends the session", unavailable, away)),
		down("58", "system error", "DATABASE_SYSTEM_ERROR", "the machine of the database fails"),
		fault("72", "snapshot failure, until Postgres 16"),
		down("F0", "configuration file error", "DATABASE_SYSTEM_ERROR", "the machine of the database fails"),
		fault("HV", "foreign data wrapper error"), fault("P0", "PL/pgSQL error"), fault("XX", "internal error"),
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
		return state{kind: errs.KindUnavailable, reason: unavailable, message: "the database was changed meanwhile",
			retry: atOnce}, true
	}
	for n := len(answer.Code); n >= 2; n-- {
		if s, ok := byCode[answer.Code[:n]]; ok {
			return s, s.kind != errs.KindInternal
		}
	}
	return state{}, false
}

// Reason returns the reason of an error of the database for operators, in UPPER_SNAKE:
// that of Translate, but DATABASE_CREDENTIALS or DATABASE_MISSING where callers are only
// told that the database is unavailable, and SQLSTATE_ with the code for what Translate
// doesn't know. It is "" for other errors.
func Reason(err error) string {
	var answer *pgconn.PgError
	if errors.As(err, &answer) {
		s, ok := stateOf(answer)
		switch {
		case !ok:
			return "SQLSTATE_" + answer.Code
		case s.operator != "":
			return s.operator
		}
		return s.reason
	}
	if isConnectionLost(err) {
		return unavailable
	}
	return ""
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
	return !ok || s.operator != "" || answer.Code == "08P01"
}

// keepsConnection reports whether a connection may be used after an answer of the server.
func keepsConnection(answer *pgconn.PgError) bool {
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
		if !ok && isConnecting(err) {
			// Whatever the server refuses a connection for, no caller's data has to do with it.
			return errs.Unavailable(unavailable, "the database is unavailable").Because(err)
		}
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
		return errs.Unavailable(unavailable, "the database is unavailable").Because(err)
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
		return ok && s.kind == errs.KindUnavailable && s.reason != busy || isConnecting(err)
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
	return ok && s.retry == atOnce
}

// isConnecting reports whether err ended an attempt to connect.
func isConnecting(err error) bool {
	var connect *pgconn.ConnectError
	return errors.As(err, &connect)
}

// isStalePlan reports whether a cached prepared statement failed because a migration
// has changed its result columns. The driver has removed it from its cache.
func isStalePlan(answer *pgconn.PgError) bool {
	return answer.Code == "0A000" && strings.HasPrefix(answer.Message, "cached plan must not change")
}
