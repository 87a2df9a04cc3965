package testkit

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/testkit/internal/child"
)

const (
	// childEnv names the program that a spawned process runs.
	childEnv = "PURSER_TESTKIT_CHILD"

	waitTimeout = time.Minute // of Child.Wait
)

// Children lets tests run parts of themselves in processes of their own, which can be
// killed and paused. A package that uses [Spawn] has
//
//	func TestMain(m *testing.M) {
//		testkit.Children(map[string]func(context.Context, []string) error{"holder": holder})
//		testkit.Main(m)
//	}
//
// In a process that Spawn started it runs the program and exits: with 1 and the
// error on stderr when it fails. In any other process it does nothing.
func Children(programs map[string]func(ctx context.Context, args []string) error) {
	name := os.Getenv(childEnv)
	if name == "" {
		return
	}
	run := programs[name]
	if run == nil {
		fmt.Fprintf(os.Stderr, "testkit: Children has no program %q\n", name)
		os.Exit(1)
	}
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Child is a process that a test has started.
type Child struct {
	t       testing.TB
	name    string
	process *child.Process
	lines   chan string // of its stdout and stderr; closed when it ends
}

// Spawn runs one of the programs of [Children] in a process of its own, which
// is killed when the test ends.
func Spawn(t testing.TB, program string, args ...string) *Child {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p, err := child.Start(child.Command{
		Path: self, Args: args, Env: append(os.Environ(), childEnv+"="+program),
		Output: in, OnParentDeath: syscall.SIGKILL,
	})
	_ = in.Close() // the child has its own
	if err != nil {
		_ = out.Close()
		t.Fatal(err)
	}
	c := &Child{t: t, name: program, process: p, lines: make(chan string, 1024)}
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(c.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			c.lines <- s.Text()
		}
	}()
	t.Cleanup(func() {
		p.Kill()
		for range c.lines { // so that the reader gets to the end
		}
		<-read
		_ = out.Close()
	})
	return c
}

// Line returns the next line that the child prints. It fails the test when the child
// ends or prints none within timeout.
func (c *Child) Line(timeout time.Duration) string {
	c.t.Helper()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case line, ok := <-c.lines:
		if !ok {
			<-c.process.Done()
			c.t.Fatalf("%s ended without a further line: %v", c.name, c.process.Err())
		}
		return line
	case <-timer.C:
		c.t.Fatalf("%s printed nothing within %s", c.name, timeout)
	}
	return ""
}

// Pid is the child's process id.
func (c *Child) Pid() int { return c.process.Pid() }

// Kill ends the child by SIGKILL and waits until it has ended.
func (c *Child) Kill() { c.process.Kill() }

// Pause freezes the child by SIGSTOP. Resume undoes it.
func (c *Child) Pause() { c.process.Pause() }

// Resume undoes Pause.
func (c *Child) Resume() { c.process.Resume() }

// Wait waits until the child ends and returns its error: nil for exit code 0. It
// kills the child after a minute. A child that prints more than 1,024 lines which
// [Child.Line] hasn't returned blocks.
func (c *Child) Wait() error {
	ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
	defer cancel()
	return c.process.Wait(ctx)
}
