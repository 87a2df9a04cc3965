package programs

import (
	"fmt"
	"time"

	"github.com/prometheus/procfs"
)

// Memory is what a process has in memory, in bytes, its resident set. The error is that of a system without /proc.
func Memory(pid int) (int, error) {
	s, err := stat(pid)
	return s.ResidentMemory(), err
}

// tick is the unit of time of /proc, the same on all systems that Go runs on.
const tick = 10 * time.Millisecond

func stat(pid int) (procfs.ProcStat, error) {
	p, err := procfs.NewProc(pid)
	if err != nil {
		return procfs.ProcStat{}, err
	}
	return p.Stat()
}

// own is the processor time of a process alone.
func own(s procfs.ProcStat) time.Duration { return time.Duration(s.UTime+s.STime) * tick }

// withChildren is the processor time of a process and of its children that have ended.
func withChildren(s procfs.ProcStat) time.Duration {
	return own(s) + time.Duration(s.CUTime+s.CSTime)*tick
}

// OwnCPU is the processor time that a process alone has used, in steps of 10 ms.
func OwnCPU(pid int) (time.Duration, error) {
	s, err := stat(pid)
	return own(s), err
}

// CPU is the processor time that each of some processes and all that they started have used, in steps of 10 ms. The
// error is that of a system without /proc, or of a process that has ended.
func CPU(pids ...int) ([]time.Duration, error) {
	running, err := procfs.AllProcs()
	if err != nil {
		return nil, err
	}
	all := map[int]procfs.ProcStat{}
	for _, p := range running {
		if s, err := p.Stat(); err == nil { // it may have ended since
			all[p.PID] = s
		}
	}
	sums := make([]time.Duration, len(pids))
	for i, pid := range pids {
		if _, runs := all[pid]; !runs {
			return nil, fmt.Errorf("there is no process %d in /proc", pid)
		}
		for of, s := range all {
			if descends(all, of, pid) {
				sums[i] += withChildren(s)
			}
		}
	}
	return sums, nil
}

// descends reports whether a process is an ancestor, or was started by one that is.
func descends(all map[int]procfs.ProcStat, pid, ancestor int) bool {
	for range all {
		if pid == ancestor {
			return true
		}
		s, known := all[pid]
		if !known {
			return false
		}
		pid = s.PPID
	}
	return false
}

// Idle is the time that all processors of the machine had nothing to do.
func Idle() (time.Duration, error) {
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return 0, err
	}
	s, err := fs.Stat()
	return time.Duration((s.CPUTotal.Idle + s.CPUTotal.Iowait) * float64(time.Second)), err
}
