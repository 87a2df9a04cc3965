// Command stress runs the tests of packages many times with the race detector, on one and on two processors, beside
// a process that keeps a processor busy. It finds tests that pass only when nothing else runs.
//
// Usage, in a folder of the workspace:
//
//	stress [-n RUNS] [-timeout DURATION] [-logs FOLDER] [PACKAGES]
//
// Each run is a process of its own that is killed, with all that it started, one minute after its timeout. The table
// at the end has a row for each package and number of processors. The exit code is 1 when a run failed; its output is
// in the folder for logs.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// burn is the argument that turns this program into the busy neighbour.
const burn = "burn-one-processor"

func main() {
	if len(os.Args) == 2 && os.Args[1] == burn {
		neighbour()
	}
	runs := flag.Int("n", 30, "runs of each package on each number of processors")
	timeout := flag.Duration("timeout", 5*time.Minute, "timeout of one run")
	logs := flag.String("logs", filepath.Join(".build", "stress"), "folder for the output of failed runs")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	failures, err := stress(ctx, *runs, *timeout, *logs, flag.Args())
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "stress:", err)
	}
	if err != nil || failures > 0 {
		os.Exit(1)
	}
}

// neighbour keeps one processor busy until the process that started it ends.
func neighbour() {
	runtime.GOMAXPROCS(1)
	parent := os.Getppid()
	for x := uint64(1); ; {
		for range 100_000_000 {
			x = x*6364136223846793005 + 1
		}
		if os.Getppid() != parent || x == 0 {
			os.Exit(0)
		}
	}
}

// target is a package with tests, as go list describes it.
type target struct {
	ImportPath, Dir           string
	TestGoFiles, XTestGoFiles []string
}

// row is one line of the table.
type row struct {
	target         target
	cpus           int
	runs, failures int
	slowest        time.Duration
}

// race has the flags of go test that the Makefile sets.
func race() []string {
	if flags := strings.Fields(os.Getenv("RACE")); len(flags) > 0 {
		return flags
	}
	return []string{"-race"}
}

func stress(ctx context.Context, runs int, timeout time.Duration, logs string, patterns []string) (int, error) {
	if runs < 1 {
		return 0, errors.New("-n: at least 1 run")
	}
	targets, err := list(ctx, patterns)
	if err != nil {
		return 0, err
	}
	bin, err := os.MkdirTemp("", "stress-")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(bin) }()
	if err := os.MkdirAll(logs, 0o755); err != nil {
		return 0, err
	}
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	busy := exec.CommandContext(ctx, self, burn)
	if err := busy.Start(); err != nil {
		return 0, err
	}
	defer func() { _ = busy.Process.Kill(); _ = busy.Wait() }()

	var rows []row
	failures := 0
	for i, p := range targets {
		file := filepath.Join(bin, strconv.Itoa(i)+".test")
		build := exec.CommandContext(ctx, "go", slices.Concat([]string{"test"}, race(), []string{"-c", "-o", file,
			p.ImportPath})...)
		if out, err := build.CombinedOutput(); err != nil {
			return failures, fmt.Errorf("build the tests of %s: %w\n%s", p.ImportPath, err, out)
		}
		for _, cpus := range []int{1, 2} {
			r := row{target: p, cpus: cpus}
			for n := 1; n <= runs && ctx.Err() == nil; n++ {
				name := fmt.Sprintf("%s-%dcpu-%d.log", strings.ReplaceAll(short(p), "/", "-"), cpus, n)
				log := filepath.Join(logs, name)
				took, err := once(ctx, p.Dir, file, cpus, timeout, log)
				r.runs++
				r.slowest = max(r.slowest, took)
				if err != nil && ctx.Err() == nil {
					r.failures++
					fmt.Printf("FAIL  %s on %d, run %d: %v, see %s\n", short(p), cpus, n, err, log)
				}
			}
			failures += r.failures
			rows = append(rows, r)
			fmt.Printf("done  %s on %d: %d of %d failed\n", short(p), cpus, r.failures, r.runs)
		}
		_ = os.Remove(file)
		if ctx.Err() != nil {
			break
		}
	}
	table(os.Stdout, rows)
	return failures, ctx.Err()
}

// list returns the packages of the patterns that have tests.
func list(ctx context.Context, patterns []string) ([]target, error) {
	if len(patterns) == 0 {
		patterns = []string{"work"}
	}
	cmd := exec.CommandContext(ctx, "go", append([]string{"list", "-json=ImportPath,Dir,TestGoFiles,XTestGoFiles"},
		patterns...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	var targets []target
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p target
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		if len(p.TestGoFiles)+len(p.XTestGoFiles) > 0 {
			targets = append(targets, p)
		}
	}
	if len(targets) == 0 {
		return nil, fmt.Errorf("no package of %s has tests", strings.Join(patterns, " "))
	}
	return targets, nil
}

// once runs a test binary in the folder of its package and keeps its output when it fails.
func once(ctx context.Context, dir, file string, cpus int, timeout time.Duration, log string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout+time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, file, "-test.timeout="+timeout.String(), "-test.cpu="+strconv.Itoa(cpus))
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOMAXPROCS="+strconv.Itoa(cpus))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	out, err := os.Create(log)
	if err != nil {
		return 0, err
	}
	defer func() { _ = out.Close() }()
	cmd.Stdout, cmd.Stderr = out, out
	begun := time.Now()
	err = cmd.Run()
	if err == nil {
		_ = os.Remove(log)
	}
	return time.Since(begun), err
}

func short(p target) string { return strings.TrimPrefix(p.ImportPath, "github.com/purserhq/purser/") }

func table(w io.Writer, rows []row) {
	width := len("package")
	for _, r := range rows {
		width = max(width, len(short(r.target)))
	}
	_, _ = fmt.Fprintf(w, "\n%-*s  cpus  runs  failures  slowest\n", width, "package")
	for _, r := range rows {
		_, _ = fmt.Fprintf(w, "%-*s  %4d  %4d  %8d  %7s\n", width, short(r.target), r.cpus, r.runs, r.failures,
			r.slowest.Round(10*time.Millisecond))
	}
}
