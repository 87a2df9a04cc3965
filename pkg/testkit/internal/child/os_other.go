//go:build unix && !linux

package child

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

func setDeathSignal(*syscall.SysProcAttr, syscall.Signal) {}

func childrenOf(parent int) []int {
	out, err := exec.Command("pgrep", "-P", strconv.Itoa(parent)).Output()
	if err != nil {
		return nil
	}
	var pids []int
	for _, f := range strings.Fields(string(out)) {
		if pid, err := strconv.Atoi(f); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// worksIn compares the program's name, since a process's working folder can't be read
// on these systems.
func worksIn(pid int, _, program string) bool {
	out, err := exec.Command("ps", "-p", strconv.Itoa(pid), "-o", "comm=").Output()
	return err == nil && strings.HasPrefix(filepath.Base(strings.TrimSpace(string(out))), program)
}

// stopped is not implemented outside Linux.
func stopped(int) bool { return true }

// MemoryDir is os.TempDir: these systems have no folder in memory that every user may use.
func MemoryDir() string { return os.TempDir() }
