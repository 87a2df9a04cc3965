package servicetest

import (
	"testing"

	"github.com/prometheus/procfs"
)

// Memory is the resident memory of a process now, and the most that it was, in bytes. A system without /proc skips the
// test.
func Memory(t testing.TB, pid int) (now, most int64) {
	t.Helper()
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		t.Skipf("this system doesn't tell the memory of a process: %v", err)
	}
	p, err := fs.Proc(pid)
	if err != nil {
		t.Fatal(err)
	}
	status, err := p.NewStatus()
	if err != nil {
		t.Fatal(err)
	}
	return int64(status.VmRSS), int64(status.VmHWM)
}
