// Package redisserver runs a private Redis from the machine's own
// redis-server: for tests, and as the Redis of the embedded suite.
//
// Promise: Start returns a server that answers, or an error of one line that
// says what to do. The server listens on 127.0.0.1 only, asks for a random
// password that is in a file with mode 0600 and never in an argument list,
// refuses writes rather than evict keys when memory runs out, and ends with
// the caller. One process at a time owns a folder; a server left behind by a
// killed owner is stopped and its data used again.
//
// Limits: Unix only; outside Linux a killed owner leaves the server running
// until the next Start on the folder. Without Durable nothing survives Stop,
// Kill or Restart. It runs as the caller, root included.
//
// Source: redis.conf of Redis 7, "Redis security" and "Redis persistence".
package redisserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/purserhq/purser/pkg/testkit/internal/child"
)

const (
	startLimit  = 60 * time.Second // when the caller's context has no deadline
	stopGrace   = 10 * time.Second
	tempPattern = "purser-redis-"
)

// Options says where and how to run the server.
type Options struct {
	// Dir holds the configuration, the log and, with Durable, the data. It is
	// made when missing and stays after Stop. Empty takes a folder under
	// os.TempDir that Stop removes.
	Dir string
	// Port on 127.0.0.1; 0 takes a free one.
	Port int
	// Durable keeps an append-only file, synced every second.
	Durable bool
	// Password is what clients have to give; empty takes the folder's, which
	// is made up for a new one.
	Password string
	// Settings are further lines of redis.conf, which win over the package's
	// own.
	Settings map[string]string
	// Log receives one line for each step that an operator may wonder about;
	// nil means none. The server's own log is in Dir/redis.log.
	Log *slog.Logger
}

// Server is a running Redis, or one between Kill and Restart. Its methods may
// be called from several goroutines.
type Server struct {
	opts     Options
	path     string
	password string
	lock     *child.Lock
	log      *child.Log
	temp     bool

	mu      sync.Mutex
	port    int
	process *child.Process
	closed  bool
}

// Start brings a server up and waits until it answers, which after a restart
// with Durable includes loading the data. Errors are [ErrNotInstalled],
// [ErrInUse], [ErrPortBusy], [ErrDiskFull], [ErrNoAccess] or one line of the
// server's own log. Without a deadline in ctx it gives up after 60 s.
func Start(ctx context.Context, o Options) (*Server, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	s := &Server{opts: o, port: o.Port, temp: o.Dir == ""}
	if err := s.open(ctx); err != nil {
		s.release()
		return nil, err
	}
	return s, nil
}

func (s *Server) open(ctx context.Context) error {
	var err error
	if s.path, err = find(); err != nil {
		return err
	}
	if err := s.takeFolder(); err != nil {
		return err
	}
	if s.log, err = child.OpenLog(s.file("redis.log")); err != nil {
		return fmt.Errorf("redisserver: %w: %w", ErrNoAccess, err)
	}
	if err := s.endOrphan(); err != nil {
		return err
	}
	if s.password = s.opts.Password; s.password == "" {
		s.password, err = s.readPassword()
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.boot(ctx)
}

// URL is how to reach the server. It holds the password.
func (s *Server) URL() string {
	u := url.URL{
		Scheme: "redis",
		User:   url.UserPassword("", s.password),
		Host:   fmt.Sprintf("127.0.0.1:%d", s.Port()),
		Path:   "/0",
	}
	return u.String()
}

// Port is where the server listens on 127.0.0.1. It stays the same through
// Restart.
func (s *Server) Port() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.port
}

// Password is what the server asks for.
func (s *Server) Password() string { return s.password }

// Logs returns the last 64 KiB of the server's log.
func (s *Server) Logs() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ""
	}
	return s.log.All()
}

// Done is closed when the server process that runs now ends, by Stop, Kill or
// on its own.
func (s *Server) Done() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process.Done()
}

// Stop ends the server; after 10 s or when ctx ends by SIGKILL, which it
// reports as an error though the server is gone. A folder that Start made is
// removed. A second Stop does nothing.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	err := s.halt(ctx)
	s.release()
	return err
}

// Kill ends the server as a crash would. Restart brings it back.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.process.Kill()
}

// Pause freezes the server: connections open and nothing answers. Resume
// undoes it.
func (s *Server) Pause() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.process.Pause()
}

// Resume lets a paused server go on.
func (s *Server) Resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.process.Resume()
}

// Restart stops the server when it runs and starts it again on the same port.
func (s *Server) Restart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errors.New("redisserver: Restart after Stop")
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	if err := s.halt(ctx); err != nil {
		return err
	}
	return s.boot(ctx)
}

func (s *Server) halt(ctx context.Context) error {
	if !s.process.Running() {
		return nil
	}
	if s.temp {
		s.process.Kill() // nothing to keep, so nothing to write out
		return nil
	}
	if err := s.process.Stop(ctx, stopGrace, syscall.SIGTERM); err != nil {
		return fmt.Errorf("redisserver: %w", err)
	}
	return nil
}

// release gives back what Start took, in any state it got to.
func (s *Server) release() {
	if s.temp && s.opts.Dir != "" {
		_ = os.RemoveAll(s.opts.Dir)
	}
	if s.log != nil {
		s.log.Close()
	}
	if s.lock != nil {
		s.lock.Unlock()
	}
}

func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("redisserver: not ready within %s", startLimit))
}
