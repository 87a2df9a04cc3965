package programs

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Memory is what a process has in memory, in bytes, its resident set. The error is that of a system without /proc.
func Memory(pid int) (int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, err
	}
	var size, resident int
	if _, err := fmt.Sscan(string(text), &size, &resident); err != nil {
		return 0, err
	}
	return resident * os.Getpagesize(), nil
}

// tick is the unit of time of /proc, the same on all systems that Go runs on.
const tick = 10 * time.Millisecond

// usedBy is what /proc/PID/stat says of a process.
type usedBy struct {
	parent int
	// own is its time; cpu is that and the one of its children that have ended.
	own, cpu time.Duration
}

func stat(pid string) (usedBy, error) {
	text, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return usedBy{}, err
	}
	_, rest, _ := strings.Cut(string(text), ") ") // the name before it may have spaces
	fields := strings.Fields(rest)
	const parent, first, last = 1, 11, 14 // ppid; utime, stime, cutime, cstime
	if len(fields) <= last {
		return usedBy{}, fmt.Errorf("/proc/%s/stat is %q", pid, text)
	}
	var u usedBy
	if u.parent, err = strconv.Atoi(fields[parent]); err != nil {
		return usedBy{}, err
	}
	for i, f := range fields[first : last+1] {
		ticks, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return usedBy{}, err
		}
		if u.cpu += time.Duration(ticks) * tick; i == 1 {
			u.own = u.cpu
		}
	}
	return u, nil
}

// OwnCPU is the processor time that a process alone has used, in steps of 10 ms.
func OwnCPU(pid int) (time.Duration, error) {
	u, err := stat(strconv.Itoa(pid))
	return u.own, err
}

// CPU is the processor time that each of some processes and all that they started have used, in steps of 10 ms. The
// error is that of a system without /proc, or of a process that has ended.
func CPU(pids ...int) ([]time.Duration, error) {
	entries, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	all := map[int]usedBy{}
	for _, e := range entries {
		name := filepath.Base(e)
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if u, err := stat(name); err == nil { // it may have ended since
			all[pid] = u
		}
	}
	sums := make([]time.Duration, len(pids))
	for i, pid := range pids {
		if _, runs := all[pid]; !runs {
			return nil, fmt.Errorf("there is no process %d in /proc", pid)
		}
		for of, u := range all {
			if descends(all, of, pid) {
				sums[i] += u.cpu
			}
		}
	}
	return sums, nil
}

// descends reports whether a process is an ancestor, or was started by one that is.
func descends(all map[int]usedBy, pid, ancestor int) bool {
	for range all {
		if pid == ancestor {
			return true
		}
		u, known := all[pid]
		if !known {
			return false
		}
		pid = u.parent
	}
	return false
}

// Idle is the time that all processors of the machine had nothing to do.
func Idle() (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	fields := strings.Fields(line) // cpu user nice system idle iowait …
	if len(fields) < 6 || !slices.Equal(fields[:1], []string{"cpu"}) {
		return 0, fmt.Errorf("/proc/stat begins with %q", line)
	}
	var idle time.Duration
	for _, f := range fields[4:6] {
		ticks, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		idle += time.Duration(ticks) * tick
	}
	return idle, nil
}
