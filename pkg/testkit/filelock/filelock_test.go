package filelock

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// A child between fork and exec holds a copy of every open file. A copied descriptor is what the kernel sees then.
func TestALockEndsThoughAChildHoldsACopyOfItsFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	first, err := Try(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	copied, err := syscall.Dup(int(first.file.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(copied) })
	if got := Holder(path); got != os.Getpid() {
		t.Errorf("it is held by %d, want %d", got, os.Getpid())
	}
	var held *HeldError
	if _, err := Try(path, 0o600); !errors.As(err, &held) || held.Pid != os.Getpid() {
		t.Errorf("a second one gets %v, want a HeldError", err)
	}
	waited := make(chan *Lock)
	go func() {
		second, err := Wait(path, 0o600)
		if err != nil {
			t.Error(err)
		}
		waited <- second
	}()
	first.Unlock()
	first.Unlock()
	(<-waited).Unlock()
	if got := Holder(path); got != 0 {
		t.Errorf("after its end it is held by %d", got)
	}
}
