// Package pgserver runs a private Postgres cluster from the machine's own
// server binaries: for tests, and as the database of the embedded suite.
//
// Promise: Start returns a server that accepts connections, or an error of one line
// that says what to do. The server listens on 127.0.0.1 only, requires a random
// password that is stored in the folder with mode 0600, runs as an unprivileged user
// when the caller is root, and ends with the caller. One process at a time owns a
// folder. A server that a killed owner left behind is stopped and its data used.
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
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/purserhq/purser/pkg/testkit/filelock"
	"github.com/purserhq/purser/pkg/testkit/internal/child"
)

const (
	superuser   = "postgres"
	stopGrace   = 10 * time.Second // for each of fast and immediate shutdown
	tempPattern = "purser-pg-"
)

// Options says where and how to run the cluster.
type Options struct {
	// Dir holds the cluster, its password and its log. It is made when
	// missing and stays after Stop. "" means a folder under os.TempDir that
	// Stop removes.
	Dir string
	// InMemory keeps the folder that Dir "" means in memory, where the machine has a file system in memory with room.
	InMemory bool
	// Port on 127.0.0.1; 0 means a free one.
	Port int
	// Durable keeps fsync, synchronous_commit and full_page_writes on.
	Durable bool
	// Settings are further lines of postgresql.conf, which win over the
	// package's own.
	Settings map[string]string
	// Log receives one line for each step that an operator may wonder about;
	// nil means none. The server's own log is in Dir/postgres.state.Log.
	Log *slog.Logger
}

// Server is a running cluster, or one between Kill and Restart. It is safe for
// concurrent use.
type Server struct {
	child.Server

	state    *child.State
	opts     Options
	bins     installation
	account  *child.Account // nil: the caller's own
	lock     *filelock.Lock
	password string
	temp     bool
}

// Start finds the binaries, makes the cluster if Dir has none, starts it and waits
// until it accepts connections. Errors are [ErrNotInstalled],
// [ErrInUse], [ErrPortBusy], [ErrDiskFull], [ErrVersion], [ErrNoAccess] or one
// line of the server's own log. Without a deadline in ctx it gives up after
// 60 s.
func Start(ctx context.Context, o Options) (*Server, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := child.StartContext(ctx, "pgserver")
	defer cancel()
	s := &Server{opts: o, temp: o.Dir == ""}
	s.state = &child.State{Package: "pgserver", Port: o.Port, Boot: s.boot, Halt: s.halt, Release: s.release}
	s.Server = child.NewServer(s.state)
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
	if s.state.Log, err = child.OpenLog(filepath.Join(s.opts.Dir, "postgres.log")); err != nil {
		return err
	}
	if err := s.endOrphan(); err != nil {
		return err
	}
	if err := s.ensureCluster(ctx); err != nil {
		return err
	}
	s.state.Lock()
	defer s.state.Unlock()
	return s.boot(ctx)
}

// URL returns the URL of a database for the superuser, with the password.
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

// Version is the server's major version and binary folder, for start-up lines.
func (s *Server) Version() string {
	return fmt.Sprintf("PostgreSQL %d (%s)", s.bins.major, s.bins.dir)
}

// halt ends the server: fast shutdown, after 10 s immediate shutdown, after 10 s
// more SIGKILL.
func (s *Server) halt(ctx context.Context) error {
	if !s.state.Process.Running() {
		return nil
	}
	signals := []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT}
	if s.temp {
		signals = signals[1:] // nothing to keep, so nothing to write out
	}
	if err := s.state.Process.Stop(ctx, stopGrace, signals...); err != nil {
		return fmt.Errorf("pgserver: %w", err)
	}
	return nil
}

// release removes and unlocks what Start made, however far it got.
func (s *Server) release() {
	if s.temp && s.opts.Dir != "" {
		removeSharedMemory(s.dataDir())
		_ = os.RemoveAll(s.opts.Dir)
	}
	if s.state.Log != nil {
		s.state.Log.Close()
	}
	if s.lock != nil {
		s.lock.Unlock()
	}
}
