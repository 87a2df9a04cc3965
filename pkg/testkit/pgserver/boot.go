package pgserver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/purserhq/purser/pkg/deadline"
	"github.com/purserhq/purser/pkg/testkit/internal/child"
	"github.com/purserhq/purser/pkg/testkit/port"
)

const (
	pollInterval  = 5 * time.Millisecond
	portTries     = 5
	lingerTimeout = 10 * time.Second // for the backends of a dead server to end
	statusLine    = 7                // of postmaster.pid, from 0: "starting", "ready", …
	sharedMemory  = 6
)

// boot starts the server on its port, or on a free one for a first start
// without a port, and waits until it is ready. The caller holds the state's mutex.
func (s *Server) boot(ctx context.Context) error {
	choose := s.state.Port == 0
	linger := time.Now().Add(lingerTimeout)
	for try := 1; ; {
		if choose {
			free, err := port.Free(ctx)
			if err != nil {
				return fmt.Errorf("pgserver: %w", err)
			}
			s.state.Port = free
		} else if port.Used(ctx, s.state.Port) {
			return explain("postgres", "could not bind", s.opts.Dir, s.state.Port)
		}
		err := s.bootOnce(ctx)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, ErrPortBusy) && choose && try < portTries:
			try++
		case errors.Is(err, errLingering) && time.Now().Before(linger):
			if err := deadline.Pause(ctx, 50*time.Millisecond); err != nil {
				return err
			}
		default:
			return err
		}
	}
}

func (s *Server) bootOnce(ctx context.Context) error {
	s.state.Log.Mark()
	onDeath := syscall.SIGINT
	if s.temp {
		onDeath = syscall.SIGQUIT
	}
	p, err := child.Start(s.command("postgres", append([]string{"-D", s.dataDir()}, s.settings()...), onDeath))
	if err != nil {
		return fmt.Errorf("pgserver: %w", err)
	}
	if err := s.awaitReady(ctx, p); err != nil {
		p.Kill()
		return err
	}
	s.state.Process = p
	return nil
}

// awaitReady reads the status that the postmaster writes to its pid file, as pg_ctl
// does.
func (s *Server) awaitReady(ctx context.Context, p *child.Process) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		select {
		case <-p.Done():
			return explain("postgres", s.state.Log.Since(), s.opts.Dir, s.state.Port)
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		lines := pidLines(s.pidFile())
		if lines[0] == strconv.Itoa(p.Pid()) && lines[statusLine] == "ready" {
			return nil
		}
	}
}

// settings are the server's options, the caller's last.
func (s *Server) settings() []string {
	set := map[string]string{
		"listen_addresses":        "127.0.0.1",
		"port":                    strconv.Itoa(s.state.Port),
		"unix_socket_directories": "",
		"max_connections":         "200",
		"shared_buffers":          "128MB",
		"timezone":                "UTC",
		"log_timezone":            "UTC",
		"lc_messages":             "C",
		"password_encryption":     "scram-sha-256",
		"logging_collector":       "off",
		"log_destination":         "stderr",
		"cluster_name":            "purser",
	}
	if !s.opts.Durable {
		maps.Copy(set, map[string]string{
			"fsync":              "off",
			"synchronous_commit": "off",
			"full_page_writes":   "off",
			"shared_buffers":     "32MB",
			"max_wal_size":       "256MB",
			"min_wal_size":       "32MB",
			"jit":                "off",
		})
	}
	maps.Copy(set, s.opts.Settings)
	var args []string
	for _, name := range slices.Sorted(maps.Keys(set)) {
		args = append(args, "-c", name+"="+set[name])
	}
	return args
}

// endOrphan stops the server of an owner that was killed. Since this process has the
// folder's lock, no owner is alive, and a running server is an orphan. When another
// program has the pid file's process id now, the file is removed, because Postgres
// would mistake that program for a server.
func (s *Server) endOrphan() error {
	if pid := child.Holder(s.pidFile(), s.dataDir(), "postgres"); pid != 0 {
		s.opts.Log.Warn("stopping a PostgreSQL server whose owner has ended", "pid", pid, "dir", s.opts.Dir)
		if err := child.EndOrphan(pid, syscall.SIGINT, stopGrace); err != nil {
			return fmt.Errorf("pgserver: %w: a server of an earlier run still uses %s: %w", ErrInUse, s.opts.Dir, err)
		}
		return nil
	}
	if child.Alive(child.PidIn(s.pidFile())) {
		return os.Remove(s.pidFile())
	}
	return nil
}

// sweep removes the folders in parent of test processes that were killed.
func sweep(parent string) {
	euid := uint32(os.Geteuid())
	account, _ := child.FindAccount("postgres", "nobody")
	owned := func(info os.FileInfo) bool {
		uid := child.AccountOf(info).UID
		return uid == euid || euid == 0 && account != nil && uid == account.UID
	}
	child.Sweep(parent+"/"+tempPattern+"*", owned, func(dir string) error {
		s := &Server{opts: Options{Dir: dir}}
		pid := child.Holder(s.pidFile(), s.dataDir(), "postgres")
		if pid != 0 {
			if err := child.EndOrphan(pid, syscall.SIGQUIT, stopGrace); err != nil {
				return err
			}
		}
		removeSharedMemory(s.dataDir())
		return nil
	})
}

// pidLines returns the lines of a pid file, trimmed and padded with "".
func pidLines(path string) []string {
	b, _ := os.ReadFile(path)
	lines := strings.Split(string(b), "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return append(lines, make([]string, statusLine+1)...)
}
