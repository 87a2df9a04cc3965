package child

import (
	"errors"
	"syscall"
	"testing"
)

// A child between fork and exec holds a copy of every open file. A copied descriptor is what the kernel sees then.
func TestAFolderIsFreeThoughAChildHoldsACopyOfItsLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := LockFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	held, err := syscall.Dup(int(first.file.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(held) })
	var locked *LockedError
	if _, err := LockFolder(dir); !errors.As(err, &locked) {
		t.Errorf("a second owner gets %v, want a LockedError", err)
	}
	first.Unlock()
	second, err := LockFolder(dir)
	if err != nil {
		t.Fatalf("after the first one's end: %v", err)
	}
	second.Unlock()
	second.Unlock()
}
