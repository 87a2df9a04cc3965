package child

import (
	"os"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

const (
	memoryDir = "/dev/shm"
	// minRoom is what the file system in memory, and the machine's memory, have to have free, in bytes.
	minRoom = 4 << 30
)

// MemoryDir returns a folder whose files are in memory, or os.TempDir where there is none with room. On a busy disk
// making and dropping databases, of hundreds of files each, takes most of a test's time.
func MemoryDir() string {
	var dir unix.Statfs_t
	if unix.Statfs(memoryDir, &dir) != nil || dir.Type != unix.TMPFS_MAGIC || dir.Bavail*uint64(dir.Bsize) < minRoom {
		return os.TempDir()
	}
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return os.TempDir()
	}
	memory, err := fs.Meminfo()
	if err != nil || memory.MemAvailableBytes == nil || *memory.MemAvailableBytes < minRoom {
		return os.TempDir()
	}
	return memoryDir
}
