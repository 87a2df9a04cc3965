package suite

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/purserhq/purser/pkg/testkit/filelock"
)

// lockFolder locks a data folder for one suite. The lock ends with the process.
func lockFolder(dir string) (*filelock.Lock, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	lock, err := filelock.Try(lockFile(dir), 0o644)
	var held *filelock.HeldError
	switch {
	case errors.As(err, &held):
		return nil, fmt.Errorf("another suite (pid %d) uses %s: stop it with Ctrl-C, or set PURSER_DEV_DIR and "+
			"PURSER_DEV_PORT for a second suite", held.Pid, dir)
	case err != nil:
		return nil, fmt.Errorf("data folder: %w", err)
	}
	return lock, nil
}

func lockFile(dir string) string { return filepath.Join(dir, "suite.pid") }

// Running returns the process id of the suite that uses a data folder; 0 if none does.
func Running(dir string) int { return filelock.Holder(lockFile(dir)) }
