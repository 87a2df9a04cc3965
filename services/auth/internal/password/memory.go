package password

import (
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
)

// AtOnce is how many hashes this process has memory for: a quarter of the
// least of GOMEMLIMIT, the cgroup's limit and the machine's memory, but no more
// than four a processor, past which they only wait for each other.
func AtOnce() int {
	return atOnce(debug.SetMemoryLimit(-1), limits(os.ReadFile), runtime.GOMAXPROCS(0))
}

func atOnce(goLimit int64, others []int64, processors int) int {
	least := goLimit
	for _, l := range others {
		least = min(least, l)
	}
	return int(max(1, min(least/4/(MemoryKiB<<10), int64(4*processors))))
}

// limits reads the memory limits that there are, in bytes: of cgroups v2 and v1,
// and of the machine.
func limits(read func(string) ([]byte, error)) []int64 {
	var found []int64
	for _, file := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		text, _ := read(file) // what isn't there limits nothing
		if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && n > 0 {
			found = append(found, n)
		}
	}
	text, _ := read("/proc/meminfo")
	_, total, _ := strings.Cut(string(text), "MemTotal:")
	if fields := strings.Fields(total); len(fields) > 0 {
		if n, err := strconv.ParseInt(fields[0], 10, 64); err == nil && n > 0 && n < math.MaxInt64>>10 {
			found = append(found, n<<10)
		}
	}
	return found
}
