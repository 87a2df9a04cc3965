package pgserver

import (
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// removeSharedMemory removes the System V segment of a killed server whose
// data is about to be removed; the kernel would keep it until the next boot.
func removeSharedMemory(dataDir string) {
	fields := strings.Fields(pidLines(filepath.Join(dataDir, "postmaster.pid"))[sharedMemory])
	if len(fields) != 2 {
		return
	}
	if id, err := strconv.Atoi(fields[1]); err == nil {
		_, _ = unix.SysvShmCtl(id, unix.IPC_RMID, nil)
	}
}
