package testkit

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"testing"

	"github.com/purserhq/purser/pkg/testkit/internal/child"
)

const folderPattern = "purser-test-"

// inMemory reports whether data belongs in memory: not that of a proof at full size, which may not fit, nor that of a
// benchmark, whose figures are those of a disk.
func inMemory() bool {
	bench := flag.Lookup("test.bench")
	return !proving() && (bench == nil || bench.Value.String() == "")
}

// Folder makes a folder for servers, which are other users' too, and removes it when the test ends. It is in memory
// where the machine has a file system in memory with room, except for benchmarks and with PURSER_PROVE.
func Folder(t testing.TB) string {
	t.Helper()
	dir, remove, err := MakeFolder()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := remove(); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// MakeFolder is [Folder] for a TestMain, which has no testing.TB. Call remove when done; the folder of a process that
// was killed is removed by the next call.
func MakeFolder() (dir string, remove func() error, err error) {
	parent := os.TempDir()
	if inMemory() {
		parent = child.MemoryDir()
	}
	owned := func(info fs.FileInfo) bool { return int(child.AccountOf(info).UID) == os.Geteuid() }
	child.Sweep(parent+"/"+folderPattern+"*", owned, func(string) error { return nil })
	if dir, err = os.MkdirTemp(parent, folderPattern); err != nil {
		return "", nil, fmt.Errorf("testkit: %w", err)
	}
	lock, err := child.LockFolder(dir)
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		return "", nil, errors.Join(fmt.Errorf("testkit: %w", err), os.RemoveAll(dir))
	}
	return dir, func() error {
		defer lock.Unlock()
		return os.RemoveAll(dir)
	}, nil
}
