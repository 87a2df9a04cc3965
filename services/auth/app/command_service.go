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
	if err := flags.Parse(args); err != nil || flags.NArg() > 0 {
		return process.ErrUnknownCommand
	}
	var kept string
	if *file != "" {
		b, err := os.ReadFile(*file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("secret file: %w", err)
		}
		kept = strings.TrimSpace(string(b))
	}
	var list []string // nil leaves them as they are
	if *permissions != "" {
		list = strings.Split(*permissions, ",")
	}
	accounts := serviceaccount.NewService(store.NewServiceAccounts(db), nil, store.NewAudit(db), time.Now)
	secret, err := accounts.Ensure(ctx, name, list, kept)
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
