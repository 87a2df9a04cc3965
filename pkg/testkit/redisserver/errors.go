package redisserver

import (
	"errors"
	"fmt"
	"strings"
)

// Errors that Start and Restart return, each wrapped in one line that names
// the folder or port concerned and what to do.
var (
	ErrNotInstalled = errors.New("redis-server is not installed")
	ErrInUse        = errors.New("the data folder is in use")
	ErrPortBusy     = errors.New("the port is in use")
	ErrDiskFull     = errors.New("the disk is full")
	ErrNoAccess     = errors.New("the data folder can't be used")
)

func explain(output, dir string, port int) error {
	has := func(s string) bool { return strings.Contains(output, s) }
	switch {
	case has("No space left on device"), has("Disk quota exceeded"):
		return fmt.Errorf("redisserver: %w: redis-server can't write to %s", ErrDiskFull, dir)
	case has("Address already in use"):
		return fmt.Errorf("redisserver: %w: another program listens on 127.0.0.1:%d", ErrPortBusy, port)
	}
	return fmt.Errorf("redisserver: redis-server ended: %s", detail(output))
}

// detail picks the last warning of a log, which is why the server ended, or
// its last line. A line reads "pid:role date time level text".
func detail(output string) string {
	lines := strings.Split(strings.TrimSpace(output), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		if _, text, ok := strings.Cut(lines[i], " # "); ok {
			return strings.TrimSpace(text)
		}
	}
	if last := strings.TrimSpace(lines[len(lines)-1]); last != "" {
		return last
	}
	return "it wrote nothing"
}
