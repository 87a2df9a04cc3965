package servicetest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/purserhq/purser/pkg/testkit/filelock"
)

// NPM installs the packages that package.json and package-lock.json in a folder pin, into .build/<name> of the
// checkout, which Git ignores, unless they are there. It returns that folder. It skips the test where node or npm is
// missing, or as SkipWithoutPackages does; what says what is not tried then. It is safe for concurrent use, also by
// other processes.
func NPM(t testing.TB, folder, name, what string) string {
	t.Helper()
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed, so not tried: %s", program, what)
		}
	}
	dir := filepath.Join(checkout(t), ".build", name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	defer lockFile(t, filepath.Join(dir, "lock"))()
	done := filepath.Join(dir, "installed")
	_, err := os.Stat(done)
	changed := err != nil
	for _, file := range []string{"package.json", "package-lock.json"} {
		wanted, err := os.ReadFile(filepath.Join(folder, file))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, file)
		if got, err := os.ReadFile(path); err == nil && bytes.Equal(got, wanted) {
			continue
		}
		changed = true
		if err := os.WriteFile(path, wanted, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if !changed {
		return dir
	}
	_ = os.Remove(done)
	npm := exec.CommandContext(t.Context(), "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	npm.Dir = dir
	if out, err := npm.CombinedOutput(); err != nil {
		SkipWithoutPackages(t, fmt.Errorf("npm ci: %w\n%s", err, out), what)
	}
	if err := os.WriteFile(done, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// SkipWithoutPackages skips a test whose packages could not be fetched, as where the registry doesn't answer; what
// says what is not tried then. With PURSER_PROVE it fails the test.
func SkipWithoutPackages(t testing.TB, err error, what string) {
	t.Helper()
	if os.Getenv("PURSER_PROVE") != "" {
		t.Fatal(err)
	}
	t.Skipf("not tried: %s: %v", what, err)
}

// lockFile waits until no other process holds the lock, and returns what ends it.
func lockFile(t testing.TB, path string) func() {
	t.Helper()
	lock, err := filelock.Wait(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return lock.Unlock
}

// checkout is the folder of the repository.
func checkout(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	t.Fatal("the checkout was not found")
	return ""
}
