package testkit_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/testkit"
)

// A process that was killed leaves its folder behind, in memory perhaps. The next one removes it, and nothing of who
// still runs.
func TestAFolderThatAKilledProcessLeftIsRemoved(t *testing.T) {
	t.Parallel()
	mine := testkit.Folder(t)
	left, err := os.MkdirTemp(filepath.Dir(mine), "purser-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(left) })
	long := time.Now().Add(-time.Hour)
	for _, dir := range []string{left, mine} {
		if err := os.Chtimes(dir, long, long); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Folder(t)
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder of a process that has ended: %v, want that it is gone", err)
	}
	if _, err := os.Stat(mine); err != nil {
		t.Errorf("the folder of one that runs: %v", err)
	}
}
