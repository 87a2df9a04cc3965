package benchmarks

import (
	"os"
	"testing"
)

// folder is one for the data of a suite, which the user of Postgres may enter, until the benchmark ends.
func folder(b *testing.B) string {
	b.Helper()
	dir, err := os.MkdirTemp("", "purser-benchmark-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	return dir
}
