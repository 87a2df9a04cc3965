package pgserver

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/purserhq/purser/pkg/testkit/filelock"
	"github.com/purserhq/purser/pkg/testkit/internal/child"
)

func (s *Server) dataDir() string      { return filepath.Join(s.opts.Dir, "data") }
func (s *Server) passwordFile() string { return filepath.Join(s.opts.Dir, "password") }
func (s *Server) pidFile() string      { return filepath.Join(s.dataDir(), "postmaster.pid") }

// takeFolder makes the folder, finds the user for it and locks it.
func (s *Server) takeFolder() error {
	if err := s.makeFolder(); err != nil {
		return err
	}
	if err := s.chooseAccount(); err != nil {
		return err
	}
	var err error
	s.lock, err = child.LockFolder(s.opts.Dir)
	var held *filelock.HeldError
	switch {
	case errors.As(err, &held):
		s.temp = false // not ours to remove
		return fmt.Errorf("pgserver: %w: %w; stop it or choose another folder", ErrInUse, held)
	case err != nil:
		return fmt.Errorf("pgserver: %w: %w", ErrNoAccess, err)
	}
	if s.account == nil {
		return nil
	}
	return s.account.Own(s.opts.Dir)
}

func (s *Server) makeFolder() error {
	if s.temp {
		parent := os.TempDir()
		if s.opts.InMemory {
			parent = child.MemoryDir()
		}
		sweep(parent)
		dir, err := os.MkdirTemp(parent, tempPattern)
		if err != nil {
			return fmt.Errorf("pgserver: %w", err)
		}
		s.opts.Dir = dir
		return nil
	}
	dir, err := filepath.Abs(s.opts.Dir)
	if err != nil {
		return fmt.Errorf("pgserver: %w", err)
	}
	s.opts.Dir = dir
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return fmt.Errorf("pgserver: %w: %w", ErrNoAccess, err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("pgserver: %w: %w", ErrNoAccess, err)
	}
	return nil
}

// chooseAccount decides who runs the server: the caller, or, because Postgres
// refuses root, the folder's owner or an unprivileged user who then owns it.
func (s *Server) chooseAccount() error {
	info, err := os.Stat(s.opts.Dir)
	if err != nil {
		return fmt.Errorf("pgserver: %w: %w", ErrNoAccess, err)
	}
	owner := child.AccountOf(info)
	if os.Geteuid() != 0 {
		if int(owner.UID) != os.Geteuid() {
			return fmt.Errorf("pgserver: %w: %s belongs to user %s; run as that user or remove the folder",
				ErrNoAccess, s.opts.Dir, owner.Name)
		}
		return nil
	}
	if owner.UID == 0 {
		if owner, err = child.FindAccount("postgres", "nobody"); err != nil {
			return fmt.Errorf("pgserver: PostgreSQL refuses to run as root, and %w", err)
		}
	}
	if blocked := owner.Blocked(s.opts.Dir); blocked != "" {
		return fmt.Errorf("pgserver: %w: PostgreSQL refuses to run as root, and user %s may not enter %s; choose a "+
			"folder outside it",
			ErrNoAccess, owner.Name, blocked)
	}
	s.account = owner
	return nil
}

// dataMajor is the version that the folder's data was made by, 0 for none.
func (s *Server) dataMajor() int {
	b, err := os.ReadFile(filepath.Join(s.dataDir(), "PG_VERSION"))
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return n
}

// ensureCluster runs initdb unless the folder has a cluster. It works in a
// folder beside and renames it, so that a start that was cut off leaves none
// or a whole one.
func (s *Server) ensureCluster(ctx context.Context) error {
	if s.dataMajor() != 0 {
		b, err := os.ReadFile(s.passwordFile())
		if err != nil {
			return fmt.Errorf("pgserver: %w: the password file is gone: %w", ErrNoAccess, err)
		}
		s.password = strings.TrimSpace(string(b))
		return nil
	}
	s.password = rand.Text()
	if err := os.WriteFile(s.passwordFile(), []byte(s.password+"\n"), 0o600); err != nil {
		if errors.Is(err, syscall.ENOSPC) {
			return explain("initdb", "No space left on device", s.opts.Dir, 0)
		}
		return fmt.Errorf("pgserver: %w: %w", ErrNoAccess, err)
	}
	if s.account != nil {
		if err := s.account.Own(s.passwordFile()); err != nil {
			return fmt.Errorf("pgserver: %w: %w", ErrNoAccess, err)
		}
	}
	fresh := s.dataDir() + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return fmt.Errorf("pgserver: %w", err)
	}
	if err := s.initdb(ctx, fresh); err != nil {
		_ = os.RemoveAll(fresh)
		return err
	}
	if err := os.Rename(fresh, s.dataDir()); err != nil {
		return fmt.Errorf("pgserver: %w", err)
	}
	s.opts.Log.InfoContext(ctx, "made a new PostgreSQL cluster", "dir", s.opts.Dir, "version", s.bins.major)
	return nil
}

func (s *Server) initdb(ctx context.Context, dir string) error {
	locale := "C.UTF-8"
	if runtime.GOOS == "darwin" {
		locale = "C" // C.UTF-8 is unknown to most macOS versions
	}
	args := []string{
		"--pgdata=" + dir, "--username=" + superuser, "--pwfile=" + s.passwordFile(),
		"--auth=scram-sha-256", "--encoding=UTF8", "--locale=" + locale,
	}
	if !s.opts.Durable {
		args = append(args, "--no-sync")
	}
	s.state.Log.Mark()
	p, err := child.Start(s.command("initdb", args, syscall.SIGKILL))
	if err != nil {
		return fmt.Errorf("pgserver: %w", err)
	}
	if err := p.Wait(ctx); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return explain("initdb", s.state.Log.Since(), s.opts.Dir, 0)
	}
	return nil
}

// command runs one of the server's programs in a clean environment: PGPORT,
// PGDATA and their like would change what it does.
func (s *Server) command(program string, args []string, onParentDeath syscall.Signal) child.Command {
	env := []string{"PATH=/usr/bin:/bin:" + s.bins.dir, "HOME=" + s.opts.Dir, "TZ=UTC", "LC_MESSAGES=C"}
	if lib, ok := os.LookupEnv("LD_LIBRARY_PATH"); ok {
		env = append(env, "LD_LIBRARY_PATH="+lib)
	}
	return child.Command{
		Path: s.bins.path(program), Args: args, Env: env, Dir: s.opts.Dir,
		User: s.account, Output: s.state.Log.File(), OnParentDeath: onParentDeath,
	}
}
