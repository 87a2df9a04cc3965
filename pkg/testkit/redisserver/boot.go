package redisserver

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/purserhq/purser/pkg/testkit/filelock"
	"github.com/purserhq/purser/pkg/testkit/internal/child"
	"github.com/purserhq/purser/pkg/testkit/port"
)

// BinEnv names the variable with the path of redis-server, when it isn't on
// PATH.
const BinEnv = "PURSER_REDIS_BIN"

const (
	pollInterval = 2 * time.Millisecond
	portTries    = 5
)

func find() (string, error) {
	if path := os.Getenv(BinEnv); path != "" {
		if _, err := exec.LookPath(path); err != nil {
			return "", fmt.Errorf("redisserver: %w: %s=%s can't be run", ErrNotInstalled, BinEnv, path)
		}
		return path, nil
	}
	for _, path := range []string{"redis-server", "/usr/local/bin/redis-server", "/opt/homebrew/bin/redis-server"} {
		if found, err := exec.LookPath(path); err == nil {
			return found, nil
		}
	}
	return "", fmt.Errorf("redisserver: %w: run `apt-get install redis-server` (Debian, Ubuntu) or `brew install "+
		"redis` (macOS), or set %s to its path",
		ErrNotInstalled, BinEnv)
}

func (s *Server) file(name string) string { return filepath.Join(s.opts.Dir, name) }

func (s *Server) takeFolder() error {
	if s.temp {
		sweep()
		dir, err := os.MkdirTemp("", tempPattern)
		if err != nil {
			return fmt.Errorf("redisserver: %w", err)
		}
		s.opts.Dir = dir
	}
	dir, err := filepath.Abs(s.opts.Dir)
	if err != nil {
		return fmt.Errorf("redisserver: %w", err)
	}
	s.opts.Dir = dir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("redisserver: %w: %w", ErrNoAccess, err)
	}
	s.lock, err = child.LockFolder(dir)
	var held *filelock.HeldError
	switch {
	case errors.As(err, &held):
		s.temp = false // not ours to remove
		return fmt.Errorf("redisserver: %w: %w; stop it or choose another folder", ErrInUse, held)
	case err != nil:
		return fmt.Errorf("redisserver: %w: %w", ErrNoAccess, err)
	}
	return nil
}

func (s *Server) endOrphan() error {
	pid := child.Holder(s.file("redis.pid"), s.opts.Dir, "redis-server")
	if pid == 0 {
		return nil
	}
	s.opts.Log.Warn("stopping a Redis server whose owner has ended", "pid", pid, "dir", s.opts.Dir)
	if err := child.EndOrphan(pid, syscall.SIGTERM, stopGrace); err != nil {
		return fmt.Errorf("redisserver: %w: a server of an earlier run still uses %s: %w", ErrInUse, s.opts.Dir, err)
	}
	return nil
}

// readPassword returns the folder's password, which it makes for a new folder. Clients
// can keep it over restarts.
func (s *Server) readPassword() (string, error) {
	name := s.file("password")
	if b, err := os.ReadFile(name); err == nil && len(strings.TrimSpace(string(b))) > 0 {
		return strings.TrimSpace(string(b)), nil
	}
	password := rand.Text()
	return password, s.write(name, password+"\n")
}

func (s *Server) write(name, text string) error {
	err := os.WriteFile(name, []byte(text), 0o600)
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return explain("No space left on device", s.opts.Dir, 0)
	case err != nil:
		return fmt.Errorf("redisserver: %w: %w", ErrNoAccess, err)
	}
	return nil
}

// boot starts the server on its port, or on a free one for a first start
// without a port, and waits until it answers. The caller holds the state's mutex.
func (s *Server) boot(ctx context.Context) error {
	choose := s.state.Port == 0
	for try := 1; ; try++ {
		if choose {
			free, err := port.Free(ctx)
			if err != nil {
				return fmt.Errorf("redisserver: %w", err)
			}
			s.state.Port = free
		} else if port.Used(ctx, s.state.Port) {
			return explain("Address already in use", s.opts.Dir, s.state.Port)
		}
		err := s.bootOnce(ctx)
		if err == nil || !choose || !errors.Is(err, ErrPortBusy) || try == portTries {
			return err
		}
	}
}

func (s *Server) bootOnce(ctx context.Context) error {
	if err := s.write(s.file("redis.conf"), s.config()); err != nil {
		return err
	}
	s.state.Log.Mark()
	onDeath := syscall.SIGTERM
	if s.temp {
		onDeath = syscall.SIGKILL
	}
	args := []string{"redis.conf"}
	if s.opts.Sentinel {
		args = append(args, "--sentinel")
	}
	p, err := child.Start(child.Command{
		Path: s.path, Args: args, Dir: s.opts.Dir,
		Env:    []string{"PATH=/usr/bin:/bin", "HOME=" + s.opts.Dir, "TZ=UTC"},
		Output: s.state.Log.File(), OnParentDeath: onDeath,
	})
	if err != nil {
		return fmt.Errorf("redisserver: %w", err)
	}
	if err := s.awaitReady(ctx, p); err != nil {
		p.Kill()
		return err
	}
	// The server writes a pid file only as a daemon or when it is configured, and
	// only after it listens.
	if err := s.write(s.file("redis.pid"), strconv.Itoa(p.Pid())+"\n"); err != nil {
		p.Kill()
		return err
	}
	s.state.Process = p
	return nil
}

func (s *Server) config() string {
	appendOnly := "no"
	if s.opts.Durable {
		appendOnly = "yes"
	}
	set := map[string]string{
		"bind":             "127.0.0.1",
		"port":             strconv.Itoa(s.state.Port),
		"protected-mode":   "yes",
		"requirepass":      s.password,
		"daemonize":        "no",
		"save":             `""`,
		"appendonly":       appendOnly,
		"appendfsync":      "everysec",
		"maxmemory-policy": "noeviction",
	}
	maps.Copy(set, s.opts.Settings)
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(set)) {
		fmt.Fprintf(&b, "%s %s\n", name, set[name])
	}
	return b.String()
}

func (s *Server) awaitReady(ctx context.Context, p *child.Process) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		select {
		case <-p.Done():
			return explain(s.state.Log.Since(), s.opts.Dir, s.state.Port)
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		// Who answers to the random password is our server and no other that
		// took the port meanwhile.
		if s.answers(ctx) && p.Running() {
			return nil
		}
	}
}

func (s *Server) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", s.state.Port))
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	if end, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(end)
	}
	if _, err := fmt.Fprintf(conn, "AUTH %s\r\nPING\r\n", s.password); err != nil {
		return false
	}
	r := bufio.NewReader(conn)
	auth, _ := r.ReadString('\n')
	pong, _ := r.ReadString('\n')
	return strings.HasPrefix(auth, "+OK") && strings.HasPrefix(pong, "+PONG")
}

// sweep removes the folders of test processes that were killed.
func sweep() {
	owned := func(info os.FileInfo) bool { return child.AccountOf(info).UID == uint32(os.Geteuid()) }
	child.Sweep(os.TempDir()+"/"+tempPattern+"*", owned, func(dir string) error {
		if pid := child.Holder(dir+"/redis.pid", dir, "redis-server"); pid != 0 {
			return child.EndOrphan(pid, syscall.SIGKILL, stopGrace)
		}
		return nil
	})
}
