// Package errs holds the typed errors that domain code returns and that
// cross a gRPC boundary unchanged: a kind, a reason for programs, a message
// for people, the fields that were wrong, and when to try again.
//
// It is pure: it knows neither gRPC nor HTTP. Package grpcerr maps it to a
// status and back (AIP-193).
package errs

import (
	"errors"
	"fmt"
	"time"
)

// Kind says what sort of failure an error is.
type Kind int

// The kinds. KindInternal is the zero value: an error that nobody has
// classified is our own fault, and its text is not for the caller.
const (
	KindInternal Kind = iota
	KindInvalid
	KindNotFound
	KindAlreadyExists
	KindConflict
	KindFailedPrecondition
	KindUnauthenticated
	KindPermissionDenied
	KindExhausted
	KindUnavailable
	KindDeadline
	KindCanceled
)

// Violation is one field that broke one rule.
type Violation struct {
	// Field as named in the request message, for example "wallet_id".
	Field string
	// Rule in words, for example "must be a UUID".
	Rule string
}

// Error is a classified failure. Treat it as immutable once returned.
type Error struct {
	Kind Kind
	// Reason for programs, UPPER_SNAKE.
	Reason string
	// Message for people; shown to the caller, so without secrets.
	Message string
	// Violations, for KindInvalid.
	Violations []Violation
	// RetryAfter, when above zero, says when trying again may help.
	RetryAfter time.Duration

	cause error
}

// Error implements error. The cause is part of it; callers over the network
// only ever see Message.
func (e *Error) Error() string {
	s := e.Message
	if e.Reason != "" {
		s = e.Reason + ": " + s
	}
	if e.cause != nil {
		s += ": " + e.cause.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.cause }

// Because returns a copy of e that carries a cause for the log.
func (e *Error) Because(cause error) *Error {
	c := *e
	c.cause = cause
	return &c
}

// After returns a copy of e that tells the caller when to try again.
func (e *Error) After(d time.Duration) *Error {
	c := *e
	c.RetryAfter = d
	return &c
}

// Invalid is a request whose field broke a rule.
func Invalid(field, rule string) *Error {
	return &Error{
		Kind: KindInvalid, Reason: "INVALID_ARGUMENT",
		Message:    field + ": " + rule,
		Violations: []Violation{{Field: field, Rule: rule}},
	}
}

// NotFound is a thing that does not exist for this caller: what names it, for
// example "wallet".
func NotFound(what string) *Error {
	return &Error{Kind: KindNotFound, Reason: "NOT_FOUND", Message: what + " not found"}
}

// AlreadyExists is a create that met an equal thing.
func AlreadyExists(reason, message string) *Error {
	return &Error{Kind: KindAlreadyExists, Reason: reason, Message: message}
}

// Conflict is a write that lost to another: read again, then retry.
func Conflict(reason, message string) *Error {
	return &Error{Kind: KindConflict, Reason: reason, Message: message}
}

// FailedPrecondition is a call that can't succeed until something else
// changes.
func FailedPrecondition(reason, message string) *Error {
	return &Error{Kind: KindFailedPrecondition, Reason: reason, Message: message}
}

// Unauthenticated is a caller who has not shown who they are.
func Unauthenticated(reason, message string) *Error {
	return &Error{Kind: KindUnauthenticated, Reason: reason, Message: message}
}

// PermissionDenied is a known caller who may not do this.
func PermissionDenied(reason, message string) *Error {
	return &Error{Kind: KindPermissionDenied, Reason: reason, Message: message}
}

// Exhausted is a limit that was reached.
func Exhausted(reason, message string) *Error {
	return &Error{Kind: KindExhausted, Reason: reason, Message: message}
}

// Unavailable is a part that is away; it asks for a retry after one second
// unless After says otherwise.
func Unavailable(reason, message string) *Error {
	return &Error{Kind: KindUnavailable, Reason: reason, Message: message, RetryAfter: time.Second}
}

// Deadline is a call that could not finish in time.
func Deadline(reason, message string) *Error {
	return &Error{Kind: KindDeadline, Reason: reason, Message: message}
}

// Internal is a failure of ours; cause goes to the log only.
func Internal(cause error) *Error {
	return &Error{Kind: KindInternal, Reason: "INTERNAL", Message: "internal error", cause: cause}
}

// As returns the *Error in err's chain, or nil.
func As(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return nil
}

// KindOf returns the kind of err: KindInternal for one without a kind.
func KindOf(err error) Kind {
	if e := As(err); e != nil {
		return e.Kind
	}
	return KindInternal
}

// Is reports whether err is of kind k.
func Is(err error, k Kind) bool { return err != nil && KindOf(err) == k && As(err) != nil }

// String names the kind.
func (k Kind) String() string {
	names := [...]string{
		"internal", "invalid", "not found", "already exists", "conflict",
		"failed precondition", "unauthenticated", "permission denied",
		"exhausted", "unavailable", "deadline", "canceled",
	}
	if k < 0 || int(k) >= len(names) {
		return fmt.Sprintf("kind(%d)", int(k))
	}
	return names[k]
}
