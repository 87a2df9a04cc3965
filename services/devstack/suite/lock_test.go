package suite

import (
	"os"
	"syscall"
	"testing"
)

// A child between fork and exec holds a copy of every open file. A copied descriptor is what the kernel sees then.
func TestAFolderIsFreeThoughAChildHoldsACopyOfItsLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := lockFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	held, err := syscall.Dup(int(first.file.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(held) })
	if got := Running(dir); got != os.Getpid() {
		t.Errorf("the folder's suite is %d, want %d", got, os.Getpid())
	}
	if _, err := lockFolder(dir); err == nil {
		t.Error("a second suite got the lock of the first")
	}
	if err := first.release(); err != nil {
		t.Fatal(err)
	}
	if got := Running(dir); got != 0 {
		t.Errorf("after its end the folder's suite is %d, want none", got)
	}
	second, err := lockFolder(dir)
	if err != nil {
		t.Fatalf("after the first one's end: %v", err)
	}
	if err := second.release(); err != nil {
		t.Error(err)
	}
}
