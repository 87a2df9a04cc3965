package k8s_test

import (
	"net"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// process is a running program.
type process struct {
	cmd   *exec.Cmd
	log   strings.Builder // may be read only once the program has ended
	ended chan struct{}   // closed when it has
	err   error           // of its end
}

func start(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{cmd: cmd, ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &p.log, &p.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		p.err = cmd.Wait()
	}()
	return p
}

// ready waits until the program's own health check succeeds.
func (p *process) ready(t *testing.T, healthcheck func() *exec.Cmd) {
	t.Helper()
	p.until(t, healthcheck, func(_ string, err error) bool { return err == nil })
}

// waits waits until the program answers its own health check with NOT_SERVING: it runs, and something is missing.
func (p *process) waits(t *testing.T, healthcheck func() *exec.Cmd) {
	t.Helper()
	p.until(t, healthcheck, func(output string, err error) bool {
		if err == nil {
			t.Fatal("it is ready without all that it needs")
		}
		return strings.Contains(output, "NOT_SERVING")
	})
}

func (p *process) until(t *testing.T, healthcheck func() *exec.Cmd, reached func(output string, err error) bool) {
	t.Helper()
	for begun := time.Now(); ; {
		output, err := healthcheck().CombinedOutput()
		if reached(string(output), err) {
			return
		}
		select {
		case <-p.ended:
			t.Fatalf("it ended with %v\n%s", p.err, &p.log)
		default:
		}
		if time.Since(begun) > time.Minute {
			p.stop(t)
			t.Fatalf("it did not do so within a minute: %s\n%s", output, &p.log)
		}
	}
}

// stop ends the program with SIGTERM, as the kubelet does.
func (p *process) stop(t *testing.T) {
	t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	if <-p.ended; p.err != nil {
		t.Errorf("it ended with %v\n%s", p.err, &p.log)
	}
}

// freeAddr returns an address that nothing listens on.
func freeAddr(t *testing.T) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lis.Close() }()
	return lis.Addr().String()
}
