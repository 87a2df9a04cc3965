// Package redisserver runs a private Redis from the machine's own
// redis-server: for tests, and as the Redis of the embedded suite.
//
// Promise: Start returns a server that answers, or an error of one line that
// says what to do. The server listens on 127.0.0.1 only, requires a random
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
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"syscall"
	"time"

	"github.com/purserhq/purser/pkg/testkit/filelock"
	"github.com/purserhq/purser/pkg/testkit/internal/child"
)

const (
	stopGrace   = 10 * time.Second
	tempPattern = "purser-redis-"
)

// Options says where and how to run the server.
type Options struct {
	// Dir holds the configuration, the log and, with Durable, the data. It is
	// created when missing and stays after Stop. "" means a folder under
	// os.TempDir that Stop removes.
	Dir string
	// Port on 127.0.0.1; 0 means a free one.
	Port int
	// Durable writes an append-only file, synced every second.
	Durable bool
	// Password that clients need; "" means the folder's, which is made for a
	// new folder.
	Password string
	// Settings are further lines of redis.conf, which win over the package's
	// own.
	Settings map[string]string
	// Sentinel makes it a Redis Sentinel, whose Settings say what it watches.
	Sentinel bool
	// Log receives one line for each step that an operator may wonder about;
	// nil means none. The server's own log is in Dir/redis.state.Log.
	Log *slog.Logger
}

// Server is a running Redis, or one between Kill and Restart. It is safe for
// concurrent use.
type Server struct {
	child.Server

	state    *child.State
	opts     Options
	path     string
	password string
	lock     *filelock.Lock
	temp     bool
}

// Start starts a server and waits until it answers, which after a restart
// with Durable includes loading the data. Errors are [ErrNotInstalled],
// [ErrInUse], [ErrPortBusy], [ErrDiskFull], [ErrNoAccess] or one line of the
// server's own log. Without a deadline in ctx it gives up after 60 s.
func Start(ctx context.Context, o Options) (*Server, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := child.StartContext(ctx, "redisserver")
	defer cancel()
	s := &Server{opts: o, temp: o.Dir == ""}
	s.state = &child.State{Package: "redisserver", Port: o.Port, Boot: s.boot, Halt: s.halt, Release: s.release}
	s.Server = child.NewServer(s.state)
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
	if s.state.Log, err = child.OpenLog(s.file("redis.log")); err != nil {
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
	s.state.Lock()
	defer s.state.Unlock()
	return s.boot(ctx)
}

// URL returns the server's URL, with the password.
func (s *Server) URL() string {
	u := url.URL{
		Scheme: "redis",
		User:   url.UserPassword("", s.password),
		Host:   fmt.Sprintf("127.0.0.1:%d", s.Port()),
		Path:   "/0",
	}
	return u.String()
}

// Password returns the password that clients need.
func (s *Server) Password() string { return s.password }

// halt ends the server by SIGTERM, and after 10 s by SIGKILL.
func (s *Server) halt(ctx context.Context) error {
	if !s.state.Process.Running() {
		return nil
	}
	if s.temp {
		s.state.Process.Kill() // nothing to keep, so nothing to write out
		return nil
	}
	if err := s.state.Process.Stop(ctx, stopGrace, syscall.SIGTERM); err != nil {
		return fmt.Errorf("redisserver: %w", err)
	}
	return nil
}

// release removes and unlocks what Start made, however far it got.
func (s *Server) release() {
	if s.temp && s.opts.Dir != "" {
		_ = os.RemoveAll(s.opts.Dir)
	}
	if s.state.Log != nil {
		s.state.Log.Close()
	}
	if s.lock != nil {
		s.lock.Unlock()
	}
}
