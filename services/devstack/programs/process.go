// Package programs builds the services' programs and runs them as processes of their own, for measurements and tests.
package programs

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// Names are the programs of the services, in the order in which they start.
func Names() []string { return []string{"auth", "wallet", "portfolio"} }

// Build builds programs of the checkout at root into a folder: services, or "devstack".
func Build(ctx context.Context, root, into string, names ...string) error {
	args := []string{"build", "-trimpath", "-o", into + "/"}
	for _, n := range names {
		args = append(args, fmt.Sprintf("./services/%s/cmd/%s", n, n))
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", strings.Join(names, ", "), err, out)
	}
	return nil
}

// BuildRevision builds the services of a revision of the repository at root, from files that it puts below a folder.
// It returns the folder of the programs.
func BuildRevision(ctx context.Context, root, revision, folder string) (string, error) {
	found := exec.CommandContext(ctx, "git", "rev-parse", "--verify", "--quiet", "--end-of-options",
		revision+"^{commit}")
	found.Dir = root
	out, err := found.Output()
	if err != nil {
		return "", fmt.Errorf("%q is no revision of this repository: %w", revision, err)
	}
	commit := strings.TrimSpace(string(out))
	source := filepath.Join(folder, commit)
	if _, err := os.Stat(filepath.Join(source, "go.work")); err != nil {
		if err := checkOut(ctx, root, commit, source); err != nil {
			return "", err
		}
	}
	programs := filepath.Join(source, "bin", "load")
	return programs, Build(ctx, source, programs, Names()...)
}

// checkOut puts the files of a commit into a folder, or nothing.
func checkOut(ctx context.Context, root, commit, into string) error {
	if err := os.MkdirAll(into, 0o755); err != nil {
		return err
	}
	archive := exec.CommandContext(ctx, "git", "archive", commit)
	archive.Dir = root
	unpack := exec.CommandContext(ctx, "tar", "-x", "-C", into)
	files, err := archive.StdoutPipe()
	if err != nil {
		return err
	}
	unpack.Stdin = files
	if err := archive.Start(); err != nil {
		return fmt.Errorf("files of %s: %w", commit, err)
	}
	out, failed := unpack.CombinedOutput()
	if err := errors.Join(failed, archive.Wait()); err != nil {
		return fmt.Errorf("files of %s: %w\n%s", commit, errors.Join(err, os.RemoveAll(into)), out)
	}
	return nil
}

// Process is a service that runs as a program. Its methods are not safe for concurrent use.
type Process struct {
	Program string
	// Addrs are where it listens: grpc, http, …
	Addrs map[string]string
	// Ready says whether all that it needs worked at its first attempt, before it began to serve.
	Ready bool
	cmd   *exec.Cmd
	log   chan string
}

// Launch runs a service on a migrated database and waits until it says that it serves. The caller ends it.
func Launch(program string, environ []string) (*Process, error) {
	p := &Process{Program: program, cmd: exec.CommandContext(context.Background(), program, "serve"),
		log: make(chan string, 1)}
	p.cmd.Env = environ
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewReader(stderr)
	if p.Addrs, p.Ready, err = serving(lines); err != nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		return nil, fmt.Errorf("%s: %w", filepath.Base(program), err)
	}
	go func() { // the pipe is read to its end before Wait
		text, _ := io.ReadAll(lines)
		p.log <- string(text)
	}()
	return p, nil
}

// serving reads the log until the service is serving, and returns its addresses, and whether it was ready before.
func serving(lines *bufio.Reader) (addrs map[string]string, ready bool, err error) {
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return nil, false, fmt.Errorf("the program ended: %w %s", err, line)
		}
		entry := map[string]any{}
		if json.Unmarshal([]byte(line), &entry) != nil {
			continue
		}
		switch entry["msg"] {
		case "ready":
			ready = true
		case "serving":
			addrs := map[string]string{}
			for k, v := range entry {
				addrs[k] = fmt.Sprint(v)
			}
			return addrs, ready, nil
		}
	}
}

// Migrate brings the database of a service to its schema.
func Migrate(ctx context.Context, program string, environ []string) error {
	out, err := Run(ctx, program, environ, "migrate", "up")
	if err == nil && !strings.Contains(out, "0 pending") {
		err = errors.New("some are pending")
	}
	if err != nil {
		return fmt.Errorf("%s migrate up: %w\n%s", program, err, out)
	}
	return nil
}

// Run runs a program to its end and returns what it printed.
func Run(ctx context.Context, program string, environ []string, args ...string) (string, error) {
	c := exec.CommandContext(ctx, program, args...)
	c.Env = environ
	out, err := c.CombinedOutput()
	return string(out), err
}

// Pid is that of the process.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Signal sends a signal.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Wait returns the log since the program serves, and the error of its exit, when it has ended.
func (p *Process) Wait() (string, error) {
	log := <-p.log
	return log, p.cmd.Wait()
}

// End ends the program by SIGTERM.
func (p *Process) End() error {
	_ = p.Signal(syscall.SIGTERM)
	log, err := p.Wait()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", filepath.Base(p.Program), err, log[max(0, len(log)-8<<10):])
	}
	return nil
}
