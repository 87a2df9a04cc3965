package suite

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// folderLock locks a data folder for one suite. The lock ends with the process.
type folderLock struct{ file *os.File }

func lockFolder(dir string) (*folderLock, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "suite.pid"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer func() { _ = f.Close() }()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		pid, _ := os.ReadFile(f.Name()) // for the message only
		return nil, fmt.Errorf("another suite (pid %s) uses %s: stop it with Ctrl-C, or set PURSER_DEV_DIR and "+
			"PURSER_DEV_PORT for a second suite",
			strings.TrimSpace(string(pid)), dir)
	}
	if err := f.Truncate(0); err == nil {
		_, err = fmt.Fprintf(f, "%d\n", os.Getpid())
		if err != nil {
			_ = f.Close()
			return nil, fmt.Errorf("write %s: %w", f.Name(), err)
		}
	}
	return &folderLock{file: f}, nil
}

// release ends the lock. Closing alone would not do: a child that is being started holds copies of all open files
// until it executes its program, and the lock with them.
func (l *folderLock) release() error {
	return errors.Join(syscall.Flock(int(l.file.Fd()), syscall.LOCK_UN), l.file.Close())
}

// Running returns the process id of the suite that uses a data folder; 0 if none does.
func Running(dir string) int {
	f, err := os.Open(filepath.Join(dir, "suite.pid"))
	if err != nil {
		return 0
	}
	lock := &folderLock{file: f}
	defer func() { _ = lock.release() }()
	if !errors.Is(syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB), syscall.EWOULDBLOCK) {
		return 0
	}
	pid := 0
	_, _ = fmt.Fscan(f, &pid) // empty for the moment in which a suite starts
	return pid
}
