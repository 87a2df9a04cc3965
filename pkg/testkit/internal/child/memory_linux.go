package child

import (
	"os"
	"strconv"
	"strings"

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
	var fs unix.Statfs_t
	if unix.Statfs(memoryDir, &fs) != nil || fs.Type != unix.TMPFS_MAGIC || fs.Bavail*uint64(fs.Bsize) < minRoom ||
		availableMemory() < minRoom {
		return os.TempDir()
	}
	return memoryDir
}

// availableMemory is how many bytes programs may use without swapping; 0 when the kernel doesn't say.
func availableMemory() uint64 {
	info, _ := os.ReadFile("/proc/meminfo")
	_, rest, _ := strings.Cut(string(info), "MemAvailable:")
	line, _, _ := strings.Cut(rest, "kB")
	kib, _ := strconv.ParseUint(strings.TrimSpace(line), 10, 64)
	return kib << 10
}
