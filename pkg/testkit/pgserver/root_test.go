//go:build linux

package pgserver_test

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/purserhq/purser/pkg/testkit/pgserver"
)

func TestAFullDiskIsExplainedInOneLine(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a small file system")
	}
	dir := folder(t)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
		t.Skipf("mount: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	_, err := pgserver.Start(t.Context(), pgserver.Options{Dir: dir + "/pg"})
	if !errors.Is(err, pgserver.ErrDiskFull) || strings.Contains(err.Error(), "\n") {
		t.Fatal(err)
	}
}

func TestAFolderThatTheServersUserCannotEnterIsExplained(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root runs the server as somebody else")
	}
	dir := folder(t)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := pgserver.Start(t.Context(), pgserver.Options{Dir: dir + "/pg"})
	if !errors.Is(err, pgserver.ErrNoAccess) || !strings.Contains(err.Error(), "may not enter "+dir) {
		t.Fatal(err)
	}
}
