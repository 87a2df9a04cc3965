package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/process"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/role"
	"github.com/purserhq/purser/services/auth/internal/store"
	"github.com/purserhq/purser/services/internal/chassis"
)

// Usage of the commands that work on the database.
const Usage = `keys list                 the signing keys and when the next step is due
keys rotate               make the standby the active key before its time
keys revoke KID           remove a compromised key from the set at once
keys rewrap               put what is under PURSER_KEK_PREVIOUS under PURSER_KEK
admin grant EMAIL [--unverified]
                          give an account the role admin, from its next sign-in or refresh on; an account
                          whose address nobody has proved to own only with --unverified
service-account ensure NAME [--permissions=A,B] [--secret-file=FILE | --given-secret-file=FILE]
                          make sure that the account is there with these permissions, and that
                          FILE holds a secret of it: a new one is written, or the given one
                          taken, when it doesn't; without FILE a new secret is printed
audit verify [N HASH]...  compute the chain of audit events again, and compare it with the hashes of
                          seals that the log has`

// Command runs what Usage lists, and writes what it has to say to out. The
// caller has to be able to read the configuration, secrets included: that is
// what it asks for permission.
func Command(ctx context.Context, cfg Config, log *slog.Logger, args []string, out io.Writer) (err error) {
	db, err := chassis.OpenCommandDatabase(ctx, name, cfg.Config, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	ctx = audit.WithClient(ctx, audit.Client{UserAgent: "command line"})
	switch {
	case len(args) >= 2 && args[0] == "keys":
		return keys(ctx, cfg, db, args[1:], out, log)
	case len(args) >= 3 && len(args) <= 4 && args[0] == "admin" && args[1] == "grant":
		email, unverified := args[2], false
		if len(args) == 4 {
			if unverified = args[3] == "--unverified"; !unverified {
				return process.ErrUnknownCommand
			}
		}
		users, closeUsers, err := newUsers(cfg, log)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, closeUsers()) }()
		return grant(ctx, store.NewAccounts(db, users, store.NewMails(db)), email, unverified, out)
	case len(args) >= 2 && args[0] == "audit" && args[1] == "verify":
		return verifyAudit(ctx, audit.NewChain(store.NewAudit(db), log, time.Now), args[2:], out)
	case len(args) >= 3 && args[0] == "service-account" && args[1] == "ensure":
		return ensureService(ctx, db, args[2], args[3:], out)
	}
	return process.ErrUnknownCommand
}

// newUsers is the cache of users that a change has to be told to.
func newUsers(cfg Config, log *slog.Logger) (*cache.Cache[account.User], func() error, error) {
	redis, err := chassis.OpenCommandRedis(name, cfg.Config, log)
	if err != nil {
		return nil, nil, err
	}
	users := cache.New[account.User](redis, userNamespace(), cache.Options{TTL: cfg.Cache.User, Log: log})
	return users, func() error {
		users.Close()
		return redis.Close()
	}, nil
}

func userNamespace() cache.Namespace {
	return cache.Namespace{Service: "auth", Entity: "user", Schema: 3}
}

// grant gives an account the role admin, and says whose it is: somebody else may have registered the address.
func grant(ctx context.Context, accounts *store.Accounts, email string, unverified bool, out io.Writer) error {
	u, err := accounts.AddRole(ctx, account.NormalEmail(email), role.Admin, func(u account.User) error {
		if u.VerifiedAt.IsZero() && !unverified {
			return errs.FailedPrecondition("EMAIL_UNVERIFIED", fmt.Sprintf("nobody has proved to own %s, and the "+
				"account that was registered with it on %s may be somebody else's; let its owner verify the address, "+
				"or repeat the command with --unverified", email, u.CreatedAt.UTC().Format(time.RFC3339)))
		}
		return nil
	})
	if e := errs.As(err); e != nil && e.Kind == errs.KindNotFound {
		return &errs.Error{Kind: e.Kind, Reason: e.Reason,
			Message: fmt.Sprintf("no account has the address %s: register it first", email)}
	}
	if err != nil {
		return err
	}
	verified := "whose address is not verified"
	if !u.VerifiedAt.IsZero() {
		verified = "whose address was verified on " + u.VerifiedAt.UTC().Format(time.RFC3339)
	}
	_, err = fmt.Fprintf(out, "%s has the role %s from its next sign-in or refresh on\n"+
		"it is the account %s of %q, registered on %s, %s\n", email, role.Admin, u.ID, u.DisplayName,
		u.CreatedAt.UTC().Format(time.RFC3339), verified)
	return err
}
