// Package child runs a server program as a child of this process.
//
// Promise: a started program is always waited for; it can be stopped within a bound,
// and killed, paused and resumed together with the processes that it forked; on Linux
// the kernel signals it when this process ends, also when it is killed.
//
// Limits: Unix only. Outside Linux a child outlives a parent that was killed;
// the next start finds it by its pid file (see [Holder]) and ends it.
//
// Source: prctl(2) PR_SET_PDEATHSIG, flock(2), setpgid(2).
package child

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// pauseTimeout bounds the wait for the threads of a paused process to stop.
const pauseTimeout = 10 * time.Second

// Command describes a program to run.
type Command struct {
	Path   string
	Args   []string // without the program's name
	Env    []string // the whole environment; nothing is inherited
	Dir    string
	User   *Account // nil runs as the caller
	Output *os.File // receives stdout and stderr

	// OnParentDeath is what the kernel sends when this process ends (Linux).
	OnParentDeath syscall.Signal
}

// Process is a running or ended child. Its methods may be called from several
// goroutines.
type Process struct {
	os   *os.Process
	done chan struct{}
	err  error // written before done is closed
}

// Start runs c in a process group of its own, so that a terminal's Ctrl-C reaches only
// this process, which stops the child itself.
func Start(c Command) (*Process, error) {
	cmd := exec.Command(c.Path, c.Args...) //nolint:noctx // a child outlives the call that starts it; Stop ends it
	cmd.Env, cmd.Dir = c.Env, c.Dir
	cmd.Stdout, cmd.Stderr = c.Output, c.Output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	setDeathSignal(cmd.SysProcAttr, c.OnParentDeath)
	if c.User != nil {
		cmd.SysProcAttr.Credential = c.User.credential()
	}
	p := &Process{done: make(chan struct{})}
	started := make(chan error, 1)
	// The kernel ties the death signal to the thread that forked, so that
	// thread has to live as long as the child.
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		p.os = cmd.Process
		started <- nil
		p.err = cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, startError(c, err)
	}
	return p, nil
}

func startError(c Command, err error) error {
	if c.User != nil && errors.Is(err, syscall.EPERM) {
		return fmt.Errorf("can't run %s as user %s: %w", c.Path, c.User.Name, err)
	}
	return fmt.Errorf("can't run %s: %w", c.Path, err)
}

// Pid is the child's process id.
func (p *Process) Pid() int { return p.os.Pid }

// Done is closed when the child has ended and been waited for.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err is how the child ended, nil for exit code 0. Call it after Done.
func (p *Process) Err() error { return p.err }

// Running reports whether the child has not ended yet.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Wait blocks until the child ends or ctx does. When ctx ends first the child
// is killed and waited for.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		p.Kill()
		return context.Cause(ctx)
	}
}

// Stop sends the signals one after the other, waits up to grace for the child to end
// after each, and kills it after the last or when ctx ends. It returns nil when the
// child ended by a signal.
func (p *Process) Stop(ctx context.Context, grace time.Duration, signals ...syscall.Signal) error {
	p.Resume()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	for _, s := range signals {
		_ = p.os.Signal(s) // fails only when it has ended; see Done
		timer.Reset(grace)
		select {
		case <-p.done:
			return nil
		case <-ctx.Done():
			p.Kill()
			return fmt.Errorf("process %d had to be killed: %w", p.Pid(), context.Cause(ctx))
		case <-timer.C:
		}
	}
	p.Kill()
	return fmt.Errorf("process %d had to be killed: it did not end within %s", p.Pid(), grace)
}

// Kill ends the child and the processes it forked by SIGKILL and waits until the child
// has ended.
func (p *Process) Kill() {
	if !p.Running() {
		return
	}
	p.pauseAll() // so that nothing is forked between the listing and the kill
	family := p.family()
	_ = p.os.Kill()
	for _, pid := range family {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	<-p.done
}

// Pause freezes the child and the processes it forked, like a hung server: its sockets
// accept connections and nothing answers. On Linux it returns when every thread has
// stopped, or after 10 s.
func (p *Process) Pause() {
	if !p.Running() {
		return
	}
	p.pauseAll()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	end := time.Now().Add(pauseTimeout)
	for _, pid := range append(p.family(), p.Pid()) {
		for !stopped(pid) && p.Running() && time.Now().Before(end) {
			<-tick.C
		}
	}
}

// Resume undoes Pause. It does nothing to a child that isn't paused.
func (p *Process) Resume() {
	if !p.Running() {
		return
	}
	for _, pid := range p.family() {
		_ = syscall.Kill(pid, syscall.SIGCONT)
	}
	_ = p.os.Signal(syscall.SIGCONT)
}

func (p *Process) pauseAll() {
	_ = p.os.Signal(syscall.SIGSTOP)
	for _, pid := range p.family() {
		_ = syscall.Kill(pid, syscall.SIGSTOP)
	}
}

// family lists the direct children of the child. The servers run here fork
// one level deep; each fork may have left the process group (Postgres calls
// setsid), so a signal to the group would miss it.
func (p *Process) family() []int { return childrenOf(p.Pid()) }
