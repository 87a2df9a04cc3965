// Package filelock lets one process at a time have a file, and so what the file stands for: a data folder, a download.
//
// Promise: a lock is held by one process. The kernel ends it with the process, also when that is killed, and Unlock
// ends it at once. The file has the process id of who locked it last.
//
// Limits: Unix only. It is advisory: nobody is kept from the file itself. A second lock of the same file in one
// process counts as another one.
//
// Source: flock(2).
package filelock

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// HeldError is returned when another process holds a lock.
type HeldError struct {
	Path string
	Pid  int // 0 when it couldn't be read, as for the moment in which the other one locks it
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("another process (pid %d) holds %s", e.Pid, e.Path)
}

// Lock is a lock that this process holds.
type Lock struct{ file *os.File }

// Try locks a file, which it makes with these permissions when it is missing. The error is a [HeldError] when another
// process holds it.
func Try(path string, permissions fs.FileMode) (*Lock, error) {
	return lock(path, permissions, syscall.LOCK_EX|syscall.LOCK_NB)
}

// Wait is Try that waits until nobody else holds the lock.
func Wait(path string, permissions fs.FileMode) (*Lock, error) {
	return lock(path, permissions, syscall.LOCK_EX)
}

func lock(path string, permissions fs.FileMode, how int) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, permissions)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), how); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, &HeldError{Path: path, Pid: pidIn(path)}
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	l := &Lock{file: f}
	if err := f.Truncate(0); err != nil {
		l.Unlock()
		return nil, fmt.Errorf("lock: %w", err)
	}
	if _, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		l.Unlock()
		return nil, fmt.Errorf("lock: %w", err)
	}
	return l, nil
}

// Unlock ends the lock. It may be called twice. Closing the file alone would not do: a child that is being started
// holds copies of all open files until it executes its program, and the lock with them.
func (l *Lock) Unlock() {
	_ = syscall.Flock(int(l.file.Fd()), syscall.LOCK_UN)
	_ = l.file.Close()
}

// Holder returns the id of the process that holds a lock; 0 if none does, or its id is not written yet.
func Holder(path string) int {
	f, err := os.Open(path)
	if err != nil {
		return 0
	}
	l := &Lock{file: f}
	defer l.Unlock()
	if !errors.Is(syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB), syscall.EWOULDBLOCK) {
		return 0
	}
	return pidIn(path)
}

// pidIn is for messages only: the other one may have ended since.
func pidIn(path string) int {
	b, _ := os.ReadFile(path)
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return pid
}
