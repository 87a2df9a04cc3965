package password

import (
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
)

// MaxConcurrent returns how many hashes may run at once in this process: as many
// as fit into a quarter of the memory limit (the minimum of GOMEMLIMIT, the
// cgroup's limit and the machine's memory), but fewer than the processors, so that
// one is always free for other calls. On one processor it is one.
func MaxConcurrent() int {
	return maxConcurrent(debug.SetMemoryLimit(-1), limits(os.ReadFile), runtime.GOMAXPROCS(0))
}

// ShareProcessor makes the scheduler of Go run two threads where it would run one. Otherwise a hash would keep every
// other call from the only one for 10 ms at a time, at each step of that call; the operating system divides a
// processor in finer slices. Go does the same for a container with less than two processors, for this reason.
func ShareProcessor() {
	if runtime.GOMAXPROCS(0) == 1 {
		runtime.GOMAXPROCS(2)
	}
}

func maxConcurrent(goLimit int64, others []int64, processors int) int {
	limit := goLimit
	for _, l := range others {
		limit = min(limit, l)
	}
	return int(max(1, min(limit/4/(MemoryKiB<<10), int64(processors-1))))
}

// limits reads the memory limits of cgroups v2 and v1 and of the machine, in
// bytes, as far as they exist.
func limits(read func(string) ([]byte, error)) []int64 {
	var found []int64
	for _, file := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		text, _ := read(file) // a missing file means no limit
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
