package servicetest

import (
	"testing"

	"github.com/purserhq/purser/pkg/errs"
)

// WantError ends the test unless err has this kind and reason, and returns it.
func WantError(t testing.TB, err error, kind errs.Kind, reason string) *errs.Error {
	t.Helper()
	e := errs.As(err)
	if e == nil || e.Kind != kind || e.Reason != reason {
		t.Fatalf("answered %v, want %s %s", err, kind, reason)
	}
	return e
}

// WantViolation ends the test unless err is an INVALID_ARGUMENT with one
// violation, that of field, and returns the rule that was violated.
func WantViolation(t testing.TB, err error, field string) string {
	t.Helper()
	e := WantError(t, err, errs.KindInvalid, "INVALID_ARGUMENT")
	if len(e.Violations) != 1 || e.Violations[0].Field != field || e.Violations[0].Rule == "" {
		t.Fatalf("violations %v, want one of %s", e.Violations, field)
	}
	return e.Violations[0].Rule
}
