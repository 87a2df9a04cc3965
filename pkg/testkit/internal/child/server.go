package child

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// startTimeout bounds a start when the caller's context has no deadline.
const startTimeout = 60 * time.Second

// State is a server's process and what it needs to be restarted. Its fields are
// guarded by the mutex, which is held while Boot, Halt and Release are called.
type State struct {
	sync.Mutex

	Package string // that begins error texts
	Port    int    // on 127.0.0.1; 0 until Boot has chosen one
	Process *Process
	Log     *Log

	Boot    func(context.Context) error // starts Process and waits until it is ready
	Halt    func(context.Context) error // ends Process
	Release func()                      // removes and unlocks what Start made

	stopped bool
}

// Server is the methods that the Postgres and the Redis server share. It is safe
// for concurrent use.
type Server struct{ state *State }

// NewServer returns the methods for a state.
func NewServer(state *State) Server { return Server{state} }

// Port returns the port on 127.0.0.1 that the server listens on. Restart keeps it.
func (s Server) Port() int {
	s.state.Lock()
	defer s.state.Unlock()
	return s.state.Port
}

// Logs returns the last 64 KiB of the server's log, and "" after Stop.
func (s Server) Logs() string {
	s.state.Lock()
	defer s.state.Unlock()
	if s.state.stopped {
		return ""
	}
	return s.state.Log.All()
}

// Done returns a channel that is closed when the current server process ends: by
// Stop, by Kill or on its own.
func (s Server) Done() <-chan struct{} {
	s.state.Lock()
	defer s.state.Unlock()
	return s.state.Process.Done()
}

// Kill ends the server as a crash would. Restart starts it again.
func (s Server) Kill() {
	s.state.Lock()
	defer s.state.Unlock()
	s.state.Process.Kill()
}

// Pause freezes every process of the server: connections open and nothing answers.
// Resume undoes it.
func (s Server) Pause() {
	s.state.Lock()
	defer s.state.Unlock()
	s.state.Process.Pause()
}

// Resume undoes Pause.
func (s Server) Resume() {
	s.state.Lock()
	defer s.state.Unlock()
	s.state.Process.Resume()
}

// Stop shuts the server down, and kills it when it hasn't ended within the server's
// grace period or when ctx ends; that is reported as an error though the server has
// ended. A folder that Start made is removed. A second Stop does nothing.
func (s Server) Stop(ctx context.Context) error {
	s.state.Lock()
	defer s.state.Unlock()
	if s.state.stopped {
		return nil
	}
	s.state.stopped = true
	err := s.state.Halt(ctx)
	s.state.Release()
	return err
}

// Restart stops the server if it runs and starts it again on the same port and
// folder. Without a deadline in ctx it gives up after 60 s.
func (s Server) Restart(ctx context.Context) error {
	s.state.Lock()
	defer s.state.Unlock()
	if s.state.stopped {
		return fmt.Errorf("%s: Restart after Stop", s.state.Package)
	}
	ctx, cancel := StartContext(ctx, s.state.Package)
	defer cancel()
	if err := s.state.Halt(ctx); err != nil {
		return err
	}
	return s.state.Boot(ctx)
}

// StartContext returns ctx with a timeout of 60 s unless it has a deadline.
func StartContext(ctx context.Context, name string) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("%s: not ready within %s", name, startTimeout))
}
