package suitetest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/purserhq/purser/services/devstack/suite"
)

// buildPrograms builds the services' and the suite's own commands, once.
var buildPrograms = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "list", "-f", "{{.Root}}", ".").Output()
	if err != nil {
		return "", err
	}
	module := strings.TrimSpace(string(out))
	dir, err := filepath.Abs(filepath.Join(module, "..", "..", "bin", "test"))
	if err != nil {
		return "", err
	}
	var commands []string
	for _, s := range []string{"auth", "wallet", "portfolio", "devstack"} {
		commands = append(commands, fmt.Sprintf("github.com/purserhq/purser/services/%s/cmd/%s", s, s))
	}
	build := exec.Command("go", append([]string{"build", "-trimpath", "-o", dir + "/"}, commands...)...)
	build.Dir = module
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return dir, nil
})

func programs(t *testing.T) string {
	t.Helper()
	dir, err := buildPrograms()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// startPrograms runs each service as a program.
func startPrograms(t *testing.T, b *suite.Backing) suite.Endpoints {
	t.Helper()
	e, _ := startProcesses(t, b, asItIs)
	return e
}

// asItIs changes nothing of the settings of a service.
func asItIs(_ string, environ []string) []string { return environ }

// startProcesses is startPrograms that also returns the processes: auth, wallet and portfolio. Each has the settings
// that change makes of its own.
func startProcesses(t *testing.T, b *suite.Backing, change func(service string, environ []string) []string) (
	e suite.Endpoints, started []*process) {
	t.Helper()
	dir := programs(t)
	auth := serve(t, filepath.Join(dir, "auth"), change("auth", b.AuthEnviron()))
	e.Auth, e.AuthHTTP = auth.addrs["grpc"], auth.addrs["http"]
	for _, args := range b.EnsureServiceAccounts() {
		if out, err := runProgram(t, filepath.Join(dir, "auth"), b.AuthEnviron(), args...); err != nil {
			t.Fatalf("auth %v: %v\n%s", args, err, out)
		}
	}
	wallet := serve(t, filepath.Join(dir, "wallet"), change("wallet", b.WalletEnviron(e)))
	e.Wallet = wallet.addrs["grpc"]
	portfolio := serve(t, filepath.Join(dir, "portfolio"), change("portfolio", b.PortfolioEnviron(e)))
	e.Portfolio = portfolio.addrs["grpc"]
	for _, addr := range []string{e.Auth, e.Wallet, e.Portfolio} {
		if err := suite.Healthy(t.Context(), addr); err != nil {
			t.Fatal(err)
		}
	}
	return e, []*process{auth, wallet, portfolio}
}

// runProgram runs a program to its end and returns what it printed.
func runProgram(t *testing.T, program string, environ []string, args ...string) (string, error) {
	t.Helper()
	c := exec.CommandContext(t.Context(), program, args...)
	c.Env = environ
	out, err := c.CombinedOutput()
	return string(out), err
}

// serve migrates the database and runs a service until the test ends.
func serve(t *testing.T, program string, environ []string) *process {
	t.Helper()
	out, err := runProgram(t, program, environ, "migrate", "up")
	if err != nil || !strings.Contains(out, "0 pending") {
		t.Fatalf("%s migrate up: %v\n%s", program, err, out)
	}
	return launch(t, program, environ)
}

// process is a service running as a program.
type process struct {
	program string
	cmd     *exec.Cmd
	addrs   map[string]string // where it listens: grpc, http, …
	log     chan string       // receives its log when it ends
	ended   bool
	text    string // its log, once it has ended
}

// launch runs a service on a migrated database until the test ends or end is called.
func launch(t *testing.T, program string, environ []string) *process {
	t.Helper()
	p := &process{program: program, cmd: exec.Command(program, "serve"), log: make(chan string, 1)}
	p.cmd.Env = environ
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(stderr)
	p.addrs = waitUntilServing(t, lines)
	go func() { // the pipe is read to its end before Wait
		text, _ := io.ReadAll(lines)
		p.log <- string(text)
	}()
	t.Cleanup(func() {
		if p.ended {
			return
		}
		if err := p.end(t, syscall.SIGTERM); err != nil {
			t.Errorf("%s on SIGTERM: %v", program, err)
		}
	})
	return p
}

// end sends a signal to the program and returns the error of its exit.
func (p *process) end(t *testing.T, by os.Signal) error {
	t.Helper()
	p.ended = true
	_ = p.cmd.Process.Signal(by)
	log := <-p.log
	p.text = log
	err := p.cmd.Wait()
	if t.Failed() || err != nil && by == syscall.SIGTERM {
		t.Logf("end of the log of %s:\n%s", p.program, log[max(0, len(log)-8<<10):])
	}
	return err
}

// memory is what the program has in memory, in bytes. Where there is no /proc the test is skipped.
func (p *process) memory(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.cmd.Process.Pid))
	if err != nil {
		t.Skip("memory is read from /proc: ", err)
	}
	var size, resident int
	if _, err := fmt.Sscan(string(text), &size, &resident); err != nil {
		t.Fatal(err)
	}
	return resident * os.Getpagesize()
}

// waitUntilServing reads the log until the service is serving, and returns its addresses.
func waitUntilServing(t *testing.T, lines *bufio.Reader) map[string]string {
	t.Helper()
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("the program ended: %v %s", err, line)
		}
		entry := map[string]any{}
		if json.Unmarshal([]byte(line), &entry) != nil || entry["msg"] != "serving" {
			continue
		}
		addrs := map[string]string{}
		for k, v := range entry {
			addrs[k] = fmt.Sprint(v)
		}
		return addrs
	}
}
