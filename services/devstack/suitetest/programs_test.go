package suitetest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/purserhq/purser/services/devstack/programs"
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
	root := filepath.Join(module, "..", "..")
	if err := programs.Build(context.Background(), root, dir, append(programs.Names(), "devstack")...); err != nil {
		return "", err
	}
	return dir, nil
})

func builtPrograms(t *testing.T) string {
	t.Helper()
	dir, err := buildPrograms()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// startPrograms runs each service as a program.
func startPrograms(t *testing.T, b *suite.Infrastructure) suite.Endpoints {
	t.Helper()
	e, _ := startProcesses(t, b, asItIs)
	return e
}

// asItIs changes nothing of the settings of a service.
func asItIs(_ string, environ []string) []string { return environ }

// startProcesses is startPrograms that also returns the processes: auth, wallet and portfolio. Each has the settings
// that change makes of its own.
func startProcesses(t *testing.T, b *suite.Infrastructure, change func(service string, environ []string) []string) (
	e suite.Endpoints, started []*process) {
	t.Helper()
	dir := builtPrograms(t)
	auth := serve(t, filepath.Join(dir, "auth"), change("auth", b.AuthEnviron()))
	e.Auth, e.AuthHTTP = auth.Addrs["grpc"], auth.Addrs["http"]
	for _, args := range b.EnsureServiceAccounts() {
		if out, err := runProgram(t, filepath.Join(dir, "auth"), b.AuthEnviron(), args...); err != nil {
			t.Fatalf("auth %v: %v\n%s", args, err, out)
		}
	}
	wallet := serve(t, filepath.Join(dir, "wallet"), change("wallet", b.WalletEnviron(e)))
	e.Wallet = wallet.Addrs["grpc"]
	portfolio := serve(t, filepath.Join(dir, "portfolio"), change("portfolio", b.PortfolioEnviron(e)))
	e.Portfolio = portfolio.Addrs["grpc"]
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
	return programs.Run(t.Context(), program, environ, args...)
}

// serve migrates the database and runs a service until the test ends.
func serve(t *testing.T, program string, environ []string) *process {
	t.Helper()
	if err := programs.Migrate(t.Context(), program, environ); err != nil {
		t.Fatal(err)
	}
	return launch(t, program, environ)
}

// process is a service running as a program.
type process struct {
	*programs.Process
	ended bool
	text  string // its log since it serves, once it has ended
}

// launch runs a service on a migrated database until the test ends or end is called.
func launch(t *testing.T, program string, environ []string) *process {
	t.Helper()
	started, err := programs.Launch(program, environ)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{Process: started}
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
	_ = p.Signal(by)
	log, err := p.Wait()
	p.text = log
	if t.Failed() || err != nil && by == syscall.SIGTERM {
		t.Logf("end of the log of %s:\n%s", p.Program, log[max(0, len(log)-8<<10):])
	}
	return err
}

// memory is what the program has in memory, in bytes. Where there is no /proc the test is skipped.
func (p *process) memory(t *testing.T) int {
	t.Helper()
	n, err := programs.Memory(p.Pid())
	if err != nil {
		t.Skip("memory is read from /proc: ", err)
	}
	return n
}
