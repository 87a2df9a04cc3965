package testkit

import (
	"os"
	"testing"
)

// Size is how far a proof goes: small in an ordinary run, full when
// PURSER_PROVE is set, as `make prove` does.
func Size(small, full int) int {
	if os.Getenv("PURSER_PROVE") != "" {
		return full
	}
	return small
}

// Figure prints what a proof came to, as a line that `make prove` puts in its
// table.
func Figure(t testing.TB, format string, args ...any) {
	t.Helper()
	t.Logf("figure: "+format, args...)
}
