package pgserver

import (
	"errors"
	"fmt"
	"strings"
)

// Errors that Start and Restart return, each wrapped in one line that names
// the folder, port or version concerned and what to do.
var (
	ErrNotInstalled = errors.New("the PostgreSQL server is not installed")
	ErrInUse        = errors.New("the data folder is in use")
	ErrPortBusy     = errors.New("the port is in use")
	ErrDiskFull     = errors.New("the disk is full")
	ErrVersion      = errors.New("the data folder belongs to another PostgreSQL version")
	ErrNoAccess     = errors.New("the data folder can't be used")
)

// errLingering: a dead server's backends still hold its shared memory. They
// notice within moments and leave.
var errLingering = errors.New("processes of the previous server are still ending")

// explain turns the output of a failed initdb or postgres into one line.
func explain(program, output, dir string, port int) error {
	has := func(s string) bool { return strings.Contains(output, s) }
	switch {
	case has("No space left on device"), has("Disk quota exceeded"):
		return fmt.Errorf("pgserver: %w: %s needs room in %s (a new cluster takes about 60 MB)", ErrDiskFull, program,
			dir)
	case has("Address already in use"), has("could not bind"):
		return fmt.Errorf("pgserver: %w: another program listens on 127.0.0.1:%d", ErrPortBusy, port)
	case has("pre-existing shared memory block"):
		return errLingering
	case has("incompatible with server"):
		return fmt.Errorf("pgserver: %w: %s", ErrVersion, detail(output))
	}
	return fmt.Errorf("pgserver: %s failed: %s", program, detail(output))
}

// detail picks the line of a log that says why it ended.
func detail(output string) string {
	lines := strings.Split(strings.TrimSpace(output), "\n")
	for _, mark := range []string{"PANIC: ", "FATAL: ", "error: ", "ERROR: "} {
		for _, line := range lines {
			if i := strings.Index(line, mark); i >= 0 {
				return strings.TrimSpace(line[i+len(mark):])
			}
		}
	}
	if last := strings.TrimSpace(lines[len(lines)-1]); last != "" {
		return last
	}
	return "it wrote nothing"
}
