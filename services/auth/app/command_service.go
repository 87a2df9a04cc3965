package app

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/process"
	"github.com/purserhq/purser/services/auth/internal/serviceaccount"
	"github.com/purserhq/purser/services/auth/internal/store"
)

// ensureService makes sure that a service account is there, and that a file
// holds a secret of it: what an init container runs before the service, as
// often as it is started.
func ensureService(ctx context.Context, db *postgres.DB, name string, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("service-account ensure", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	permissions := flags.String("permissions", "", "")
	file := flags.String("secret-file", "", "")
	given := flags.String("given-secret-file", "", "")
	if err := flags.Parse(args); err != nil || flags.NArg() > 0 || *file != "" && *given != "" {
		return process.ErrUnknownCommand
	}
	accounts := serviceaccount.NewService(store.NewServiceAccounts(db), nil, store.NewAudit(db), time.Now)
	var list []string // nil leaves them as they are
	if *permissions != "" {
		list = strings.Split(*permissions, ",")
	}
	if *given != "" {
		return ensureGiven(ctx, accounts, name, list, *given, out)
	}
	var storedSecret string
	if *file != "" {
		b, err := os.ReadFile(*file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("secret file: %w", err)
		}
		storedSecret = strings.TrimSpace(string(b))
	}
	secret, err := accounts.Ensure(ctx, name, list, storedSecret)
	switch {
	case err != nil:
		return err
	case secret == "":
		_, err = fmt.Fprintf(out, "%s is there, and %s holds a secret of it\n", name, *file)
	case *file == "":
		_, err = fmt.Fprintln(out, secret)
	default:
		if err := writeSecret(*file, secret); err != nil {
			return err
		}
		_, err = fmt.Fprintf(out, "%s is there, and %s holds a new secret of it\n", name, *file)
	}
	return err
}

// ensureGiven makes sure that a service account is there with the secret that
// a file holds, which is left as it is: a mounted one, say.
func ensureGiven(ctx context.Context, accounts *serviceaccount.Service, name string, permissions []string, file string,
	out io.Writer) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("given secret file: %w", err)
	}
	added, err := accounts.EnsureGiven(ctx, name, permissions, strings.TrimSpace(string(b)))
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	became := "is a secret of it"
	if added {
		became = "became its newest secret"
	}
	_, err = fmt.Fprintf(out, "%s is there, and what %s holds %s\n", name, file, became)
	return err
}

// writeSecret puts a secret into a file that its owner alone can read, whole or
// not at all.
func writeSecret(path, secret string) error {
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("secret file: %w", err)
	}
	if err := os.WriteFile(fresh, []byte(secret+"\n"), 0o600); err != nil {
		return fmt.Errorf("secret file: %w", err)
	}
	if err := os.Rename(fresh, path); err != nil {
		return fmt.Errorf("secret file: %w", err)
	}
	return nil
}
