package pgserver

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/purserhq/purser/pkg/testkit/internal/child"
)

// StartStandby copies a running server, and runs the copy as its standby, which follows it
// and takes no writes until Promote. Roles, passwords and databases are those of primary.
// o.Dir has to be new or "".
func StartStandby(ctx context.Context, primary *Server, o Options) (*Server, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := child.StartContext(ctx, "pgserver")
	defer cancel()
	s := &Server{opts: o, temp: o.Dir == "", bins: primary.bins, password: primary.password}
	s.state = &child.State{Package: "pgserver", Port: o.Port, Boot: s.boot, Halt: s.halt, Release: s.release}
	s.Server = child.NewServer(s.state)
	if err := s.follow(ctx, primary); err != nil {
		s.release()
		return nil, err
	}
	return s, nil
}

func (s *Server) follow(ctx context.Context, primary *Server) error {
	if err := s.takeFolder(); err != nil {
		return err
	}
	var err error
	if s.state.Log, err = child.OpenLog(filepath.Join(s.opts.Dir, "postgres.log")); err != nil {
		return err
	}
	if err := os.WriteFile(s.passwordFile(), []byte(s.password+"\n"), 0o600); err != nil {
		return fmt.Errorf("pgserver: %w", err)
	}
	if s.account != nil {
		if err := s.account.Own(s.passwordFile()); err != nil {
			return fmt.Errorf("pgserver: %w", err)
		}
	}
	s.state.Log.Mark()
	// -R writes the settings of a standby, with the address of the primary.
	p, err := child.Start(s.command("pg_basebackup", []string{"--dbname=" + primary.URL("postgres"),
		"--pgdata=" + s.dataDir(), "--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync"},
		syscall.SIGKILL))
	if err != nil {
		return fmt.Errorf("pgserver: %w", err)
	}
	if err := p.Wait(ctx); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return explain("pg_basebackup", s.state.Log.Since(), s.opts.Dir, 0)
	}
	s.state.Lock()
	defer s.state.Unlock()
	return s.boot(ctx)
}

// Promote makes a standby a primary, and returns when it takes writes.
func (s *Server) Promote(ctx context.Context) error {
	return s.asSuperuser(ctx, func(c *pgx.Conn) error {
		var done bool
		if err := c.QueryRow(ctx, `SELECT pg_promote()`).Scan(&done); err != nil {
			return err
		}
		if !done {
			return fmt.Errorf("the standby on port %d was not promoted in time", s.Port())
		}
		return nil
	})
}

// Set changes a setting of the running server, as ALTER SYSTEM does, and returns when the
// server has read it.
func (s *Server) Set(ctx context.Context, name, value string) error {
	return s.asSuperuser(ctx, func(c *pgx.Conn) error {
		if _, err := c.Exec(ctx, fmt.Sprintf(`ALTER SYSTEM SET %s = '%s'`, pgx.Identifier{name}.Sanitize(),
			value)); err != nil {
			return err
		}
		if _, err := c.Exec(ctx, `SELECT pg_reload_conf()`); err != nil {
			return err
		}
		tick := time.NewTicker(pollInterval)
		defer tick.Stop()
		for {
			var now string
			// A new session reads the file, and so does this one between two statements.
			if err := c.QueryRow(ctx, `SELECT current_setting($1)`, name).Scan(&now); err != nil || now == value {
				return err
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	})
}
