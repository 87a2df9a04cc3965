package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/process"
	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/role"
	"github.com/purserhq/purser/services/auth/internal/signing"
	"github.com/purserhq/purser/services/auth/internal/store"
)

// Usage of the commands that work on the database.
const Usage = `keys list                 the signing keys and when the next step is due
keys rotate               make the standby the active key before its time
keys revoke KID           take a compromised key out of the set at once
admin grant EMAIL         give an account the role admin, from its next sign-in or refresh on`

// Command runs what Usage lists, and writes what it has to say to out. The
// caller has to be able to read the configuration, secrets included: that is
// what it asks for permission.
func Command(ctx context.Context, cfg Config, log *slog.Logger, args []string, out io.Writer) (err error) {
	db, err := postgres.Open(ctx, cfg.Database.Options("purser-auth", log))
	if err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	ctx = audit.WithClient(ctx, audit.Client{Device: "command line"})
	switch {
	case len(args) >= 2 && args[0] == "keys":
		rotator, err := newRotator(cfg, db, log)
		if err != nil {
			return err
		}
		return keys(ctx, rotator, args[1:], out)
	case len(args) == 3 && args[0] == "admin" && args[1] == "grant":
		users, closeUsers, err := newUsers(cfg, log)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, closeUsers()) }()
		return grant(ctx, store.NewAccounts(db, users, store.NewMails(db)), args[2], out)
	}
	return process.ErrUnknownCommand
}

// newUsers is the cache of users that a change has to be told to.
func newUsers(cfg Config, log *slog.Logger) (*cache.Cache[account.User], func() error, error) {
	redis, err := redisx.New(redisx.Options{URL: cfg.RedisURL.Reveal(), Name: "purser-auth", Log: log})
	if err != nil {
		return nil, nil, fmt.Errorf("open Redis: %w", err)
	}
	users := cache.New[account.User](redis, usersNamespace(), cache.Options{TTL: cfg.Cache.User, Log: log})
	return users, func() error {
		users.Close()
		return redis.Close()
	}, nil
}

func usersNamespace() cache.Namespace {
	return cache.Namespace{Service: "auth", Entity: "user", Schema: 3}
}

func newRotator(cfg Config, db *postgres.DB, log *slog.Logger) (*signing.Rotator, error) {
	kek, err := cfg.kek()
	if err != nil {
		return nil, err
	}
	sealer, err := signing.NewSealer(kek)
	if err != nil {
		return nil, err
	}
	return signing.NewRotator(cfg.Issuer, cfg.policy(), store.NewKeys(db), sealer, log), nil
}

func keys(ctx context.Context, rotator *signing.Rotator, args []string, out io.Writer) error {
	var err error
	switch {
	case len(args) == 1 && args[0] == "list":
	case len(args) == 1 && args[0] == "rotate":
		err = rotator.Rotate(ctx, true)
	case len(args) == 2 && args[0] == "revoke":
		err = rotator.Revoke(ctx, args[1])
	default:
		return process.ErrUnknownCommand
	}
	if err != nil {
		return err
	}
	o, err := rotator.Overview(ctx)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "KID\tALGORITHM\tSTATE\tPUBLISHED\tACTIVE SINCE\tRETIRING SINCE\t")
	for _, k := range o.Keys {
		state := string(k.State)
		if k.Waived {
			state += " (waived)"
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t\n", k.KID, k.Algorithm, state, at(k.PublishedAt), at(k.ActivatedAt), at(k.RetiringAt))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	next := "as soon as a replica looks"
	if !o.Next.IsZero() {
		next = at(o.Next)
	}
	_, err = fmt.Fprintf(out, "epoch %d, next step %s\n", o.Epoch, next)
	return err
}

func at(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

func grant(ctx context.Context, accounts *store.Accounts, email string, out io.Writer) error {
	if err := accounts.AddRole(ctx, strings.ToLower(email), role.Admin); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "%s has the role %s from its next sign-in or refresh on\n", email, role.Admin)
	return err
}
