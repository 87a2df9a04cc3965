package child

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/purserhq/purser/pkg/testkit/filelock"
)

const lockName = "owner.lock"

// LockFolder locks dir for this process. The error is a [filelock.HeldError] when another process has it.
func LockFolder(dir string) (*filelock.Lock, error) {
	return filelock.Try(filepath.Join(dir, lockName), 0o600)
}

// Holder returns the id of the live process that a pid file in dir names, or 0 when
// there is none or another program has the id now. program is the start of the
// executable's name.
func Holder(pidFile, dir, program string) int {
	pid := firstLineInt(pidFile)
	if pid <= 1 || syscall.Kill(pid, 0) == syscall.ESRCH || !worksIn(pid, dir, program) {
		return 0
	}
	return pid
}

// Alive reports whether any process has this id.
func Alive(pid int) bool { return pid > 0 && syscall.Kill(pid, 0) != syscall.ESRCH }

// PidIn returns the process id on the first line of a pid file, 0 when there is none.
func PidIn(pidFile string) int { return firstLineInt(pidFile) }

// EndOrphan stops a server that this process didn't start: by a signal, and after grace
// by SIGKILL. It returns when the process has ended, or an error after twice grace.
func EndOrphan(pid int, s syscall.Signal, grace time.Duration) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	_ = syscall.Kill(pid, syscall.SIGCONT)
	for _, sig := range []syscall.Signal{s, syscall.SIGKILL} {
		if err := syscall.Kill(pid, sig); err != nil && err != syscall.ESRCH {
			return fmt.Errorf("stop process %d: %w", pid, err)
		}
		for end := time.Now().Add(grace); time.Now().Before(end); <-tick.C {
			if hasEnded(pid) {
				return nil
			}
		}
	}
	return fmt.Errorf("process %d does not end", pid)
}

// hasEnded is true also for a zombie, which its parent hasn't waited for.
func hasEnded(pid int) bool {
	if !Alive(pid) {
		return true
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(stat), ") Z ")
}

// Sweep calls end for every folder that matches pattern and whose owner is dead, and
// removes the folder when end succeeds. It ignores folders younger than a minute: their
// owner may not have locked them yet.
func Sweep(pattern string, owned func(os.FileInfo) bool, end func(dir string) error) {
	dirs, _ := filepath.Glob(pattern)
	for _, dir := range dirs {
		info, err := os.Lstat(dir)
		if err != nil || !info.IsDir() || !owned(info) || time.Since(info.ModTime()) < time.Minute {
			continue
		}
		lock, err := LockFolder(dir)
		if err != nil {
			continue
		}
		if end(dir) == nil {
			_ = os.RemoveAll(dir)
		}
		lock.Unlock()
	}
}

func firstLineInt(path string) int {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(b), "\n")
	n, _ := strconv.Atoi(strings.TrimSpace(line))
	return n
}
