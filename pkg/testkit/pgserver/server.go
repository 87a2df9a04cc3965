// Package pgserver runs a private Postgres cluster from the machine's own
// server binaries: for tests, and as the database of the embedded suite.
//
// Promise: Start returns a server that answers, or an error of one line that
// says what to do. The server listens on 127.0.0.1 only, asks for a random
// password that is kept in the folder with mode 0600, runs as an unprivileged
// user when the caller is root, and ends with the caller. One process at a
// time owns a folder. A server left behind by a killed owner is stopped and
// its data used again.
//
// Limits: Unix only; outside Linux a killed owner leaves the server running
// until the next Start on the folder. Without Durable, data survives Stop and
// Kill but not a crash of the machine. No unix socket is opened: its path has
// a length limit that a folder deep down would exceed.
//
// Source: PostgreSQL documentation, "Server Setup and Operation"; the meaning
// of SIGINT and SIGQUIT from "Shutting Down the Server".
package pgserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/purserhq/purser/pkg/testkit/internal/child"
)

const (
	superuser   = "postgres"
	startLimit  = 60 * time.Second // when the caller's context has no deadline
	stopGrace   = 10 * time.Second // for each of fast and immediate shutdown
	tempPattern = "purser-pg-"
)

// Options says where and how to run the cluster.
type Options struct {
	// Dir holds the cluster, its password and its log. It is made when
	// missing and stays after Stop. Empty takes a folder under os.TempDir that
	// Stop removes.
	Dir string
	// Port on 127.0.0.1; 0 takes a free one.
	Port int
	// Durable keeps fsync and what belongs to it on. Tests leave it off.
	Durable bool
	// Settings are further lines of postgresql.conf, which win over the
	// package's own.
	Settings map[string]string
	// Log receives one line for each step that an operator may wonder about;
	// nil means none. The server's own log is in Dir/postgres.log.
	Log *slog.Logger
}

// Server is a running cluster, or one between Kill and Restart. Its methods
// may be called from several goroutines.
type Server struct {
	opts     Options
	bins     installation
	account  *child.Account // nil: the caller's own
	lock     *child.Lock
	log      *child.Log
	password string
	temp     bool

	mu      sync.Mutex
	port    int
	process *child.Process
	closed  bool
}

// Start brings a cluster up: finds the binaries, makes the cluster when Dir
// has none, and waits until it takes connections. Errors are [ErrNotInstalled],
// [ErrInUse], [ErrPortBusy], [ErrDiskFull], [ErrVersion], [ErrNoAccess] or one
// line of the server's own log. Without a deadline in ctx it gives up after
// 60 s.
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
	if err := s.takeFolder(); err != nil {
		return err
	}
	var err error
	if s.bins, err = findInstallation(s.dataMajor()); err != nil {
		return err
	}
	if s.log, err = child.OpenLog(filepath.Join(s.opts.Dir, "postgres.log")); err != nil {
		return err
	}
	if err := s.endOrphan(); err != nil {
		return err
	}
	if err := s.ensureCluster(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.boot(ctx)
}

// URL is how to reach a database as the superuser. It holds the password.
func (s *Server) URL(database string) string {
	return s.url(database, superuser, s.password)
}

func (s *Server) url(database, role, password string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(role, password),
		Host:     fmt.Sprintf("127.0.0.1:%d", s.Port()),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
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

// Version is the server's major version and binary folder, for start-up lines.
func (s *Server) Version() string {
	return fmt.Sprintf("PostgreSQL %d (%s)", s.bins.major, s.bins.dir)
}

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

// Stop ends the server: fast shutdown, after 10 s immediate shutdown, after
// 10 s more or when ctx ends SIGKILL, which it reports as an error though the
// server is gone. A folder that Start made is removed. A second Stop does
// nothing.
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

// Pause freezes every process of the server: connections open and nothing
// answers. Resume undoes it.
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

// Restart stops the server when it runs and starts it again on the same port
// with the same data.
func (s *Server) Restart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errors.New("pgserver: Restart after Stop")
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
	signals := []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT}
	if s.temp {
		signals = signals[1:] // nothing to keep, so nothing to write out
	}
	if err := s.process.Stop(ctx, stopGrace, signals...); err != nil {
		return fmt.Errorf("pgserver: %w", err)
	}
	return nil
}

// release gives back what Start took, in any state it got to.
func (s *Server) release() {
	if s.temp && s.opts.Dir != "" {
		removeSharedMemory(s.dataDir())
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
	return context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("pgserver: not ready within %s", startLimit))
}
