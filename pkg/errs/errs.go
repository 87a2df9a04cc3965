// Package errs has the typed errors that domain code returns and that cross a
// gRPC call unchanged: a kind, a reason for programs, a message for people, the
// fields that were invalid, and when to retry.
//
// It doesn't depend on gRPC or HTTP. Package grpcerr converts its errors to gRPC
// statuses and back (AIP-193).
package errs

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"
)

// Kind is the class of an error. Each has one gRPC code, see package grpcerr.
type Kind int

// The kinds. KindInternal is the zero value: an error that no code has classified
// is a fault of the service, and its text is not shown to the caller.
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
	// Field is its name in the request message, for example "wallet_id".
	Field string
	// Rule that it broke, for example "must be a UUID".
	Rule string
}

// Error is a classified failure. Treat it as immutable once returned.
type Error struct {
	Kind Kind
	// Reason is for programs, in UPPER_SNAKE.
	Reason string
	// Message is for people. The caller sees it, so it has no secrets.
	Message string
	// Violations are set for KindInvalid.
	Violations []Violation
	// Metadata are facts for programs, such as the etag that a thing has now: names
	// in lower_snake, values of at most a few hundred bytes, no secrets. Nil when
	// there are none. Don't change it.
	Metadata map[string]string
	// RetryAfter, when above zero, is how long to wait before a retry.
	RetryAfter time.Duration

	cause error
}

// Error implements error. It contains the cause; callers over the network see
// only Message.
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

// Because returns a copy of e with a cause, which is logged and not sent to the
// caller.
func (e *Error) Because(cause error) *Error {
	c := *e
	c.cause = cause
	return &c
}

// After returns a copy of e that asks the caller to wait for d before a retry.
func (e *Error) After(d time.Duration) *Error {
	c := *e
	c.RetryAfter = d
	return &c
}

// With returns a copy of e with one more fact for programs, see Metadata.
func (e *Error) With(name, value string) *Error {
	c := *e
	c.Metadata = maps.Clone(e.Metadata)
	if c.Metadata == nil {
		c.Metadata = map[string]string{}
	}
	c.Metadata[name] = value
	return &c
}

// Invalid is returned for a request with a field that breaks a rule.
func Invalid(field, rule string) *Error {
	return Violated([]Violation{{Field: field, Rule: rule}})
}

// AllInvalid returns one error with the violations of all that are errs.Invalid,
// so that a caller learns of every mistake at once: nil errors are left out, and of
// the violations of one field the first is kept. An error of another kind among
// them is returned as it is. It returns nil when nothing is left.
func AllInvalid(found ...error) error {
	var all []Violation
	seen := map[string]bool{}
	for _, err := range found {
		if err == nil {
			continue
		}
		e := As(err)
		if e == nil || e.Kind != KindInvalid || len(e.Violations) == 0 {
			return err
		}
		for _, v := range e.Violations {
			if !seen[v.Field] {
				seen[v.Field] = true
				all = append(all, v)
			}
		}
	}
	if len(all) == 0 {
		return nil
	}
	return Violated(all)
}

// MaxViolations is how many violations one error reports.
const MaxViolations = 10

// Violated is Invalid for several violations, at least one. Those after the first
// MaxViolations are only counted.
func Violated(all []Violation) *Error {
	reported := all[:min(len(all), MaxViolations)]
	text := make([]string, 0, len(reported)+1)
	for _, v := range reported {
		text = append(text, v.Field+": "+v.Rule)
	}
	if more := len(all) - len(reported); more > 0 {
		text = append(text, fmt.Sprintf("and %d more", more))
	}
	return &Error{Kind: KindInvalid, Reason: "INVALID_ARGUMENT", Message: strings.Join(text, "; "),
		Violations: reported}
}

// NotFound is returned for a thing that does not exist or is not the caller's.
// what names its type, for example "wallet".
func NotFound(what string) *Error {
	return &Error{Kind: KindNotFound, Reason: "NOT_FOUND", Message: what +
		" not found: there is none by this id or name, or it is not the caller's"}
}

// ListedBy adds to an error of NotFound which method lists the things that there are
// for the caller, for example "WalletService.ListWallets", and returns it.
func (e *Error) ListedBy(method string) *Error {
	c := *e
	c.Message += "; see " + method
	return &c
}

// Unlisted is NotFound for a thing that is nobody's own, such as a token. given is its id
// or name as the caller gave it, and which says what there is instead, for example
// "see TokenService.ListTokens".
func Unlisted(what, given, which string) *Error {
	return &Error{Kind: KindNotFound, Reason: "NOT_FOUND",
		Message: what + " not found, " + Given(given) + "; " + which}
}

// AlreadyExists is returned for a create of a thing that exists already.
func AlreadyExists(reason, message string) *Error {
	return &Error{Kind: KindAlreadyExists, Reason: reason, Message: message}
}

// Conflict is returned for a write that a concurrent write has overtaken: the
// caller reads again and then retries.
func Conflict(reason, message string) *Error {
	return &Error{Kind: KindConflict, Reason: reason, Message: message}
}

// FailedPrecondition is returned for a call that can't succeed until something
// else changes.
func FailedPrecondition(reason, message string) *Error {
	return &Error{Kind: KindFailedPrecondition, Reason: reason, Message: message}
}

// Unauthenticated is returned when the caller's identity is not proven.
func Unauthenticated(reason, message string) *Error {
	return &Error{Kind: KindUnauthenticated, Reason: reason, Message: message}
}

// PermissionDenied is returned for a known caller who may not do this.
func PermissionDenied(reason, message string) *Error {
	return &Error{Kind: KindPermissionDenied, Reason: reason, Message: message}
}

// Exhausted is returned when a limit is reached.
func Exhausted(reason, message string) *Error {
	return &Error{Kind: KindExhausted, Reason: reason, Message: message}
}

// Unavailable is returned when a dependency doesn't answer. It asks for a retry
// after one second; After sets another time.
func Unavailable(reason, message string) *Error {
	return &Error{Kind: KindUnavailable, Reason: reason, Message: message, RetryAfter: time.Second}
}

// Deadline is returned for a call that could not finish in time.
func Deadline(reason, message string) *Error {
	return &Error{Kind: KindDeadline, Reason: reason, Message: message}
}

// Internal is returned for a fault of the service. cause is only logged.
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

// Is reports whether err has a kind and it is k.
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
