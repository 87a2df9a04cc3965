package testkit

import (
	"os"
	"testing"
)

// Size returns how many rounds a test runs: small in an ordinary run, full when
// PURSER_PROVE is set, as `make prove` does.
func Size(small, full int) int {
	if proving() {
		return full
	}
	return small
}

func proving() bool { return os.Getenv("PURSER_PROVE") != "" }

// Figure logs a measured result, as a line that `make prove` shows in its table.
func Figure(t testing.TB, format string, args ...any) {
	t.Helper()
	t.Logf("figure: "+format, args...)
}
