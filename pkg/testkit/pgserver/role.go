package pgserver

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// CreateRole makes a role that may log in and nothing else, unless it exists.
// Its password follows from the cluster's, so [Server.RoleURL] is the same in
// every run on one folder.
func (s *Server) CreateRole(ctx context.Context, role string) error {
	return s.asSuperuser(ctx, func(c *pgx.Conn) error {
		var exists bool
		err := c.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)`, role).Scan(&exists)
		if err != nil || exists {
			return err
		}
		// A utility statement takes no parameters; the password is hex.
		_, err = c.Exec(ctx, fmt.Sprintf(`CREATE ROLE %s LOGIN PASSWORD '%s'`,
			pgx.Identifier{role}.Sanitize(), s.rolePassword(role)))
		return err
	})
}

// CreateDatabase makes a database owned by role, which must exist, unless the
// database exists. Other roles may not connect to it.
func (s *Server) CreateDatabase(ctx context.Context, database, owner string) error {
	return s.asSuperuser(ctx, func(c *pgx.Conn) error {
		name := pgx.Identifier{database}.Sanitize()
		var exists bool
		err := c.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`, database).Scan(&exists)
		if err != nil {
			return err
		}
		if !exists {
			if _, err := c.Exec(ctx, `CREATE DATABASE `+name+` OWNER `+pgx.Identifier{owner}.Sanitize()); err != nil {
				return err
			}
		}
		_, err = c.Exec(ctx, `REVOKE CONNECT ON DATABASE `+name+` FROM PUBLIC`)
		return err
	})
}

// RoleURL is how to reach a database as a role of CreateRole. It holds the
// password.
func (s *Server) RoleURL(database, role string) string {
	return s.url(database, role, s.rolePassword(role))
}

func (s *Server) rolePassword(role string) string {
	mac := hmac.New(sha256.New, []byte(s.password))
	mac.Write([]byte(role))
	return hex.EncodeToString(mac.Sum(nil)[:16])
}

func (s *Server) asSuperuser(ctx context.Context, do func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return fmt.Errorf("pgserver: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := do(conn); err != nil {
		return fmt.Errorf("pgserver: %w", err)
	}
	return nil
}
