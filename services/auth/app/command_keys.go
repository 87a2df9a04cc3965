package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/process"
	"github.com/purserhq/purser/services/auth/internal/signing"
	"github.com/purserhq/purser/services/auth/internal/store"
	"github.com/purserhq/purser/services/auth/internal/totp"
	"github.com/purserhq/purser/services/internal/seal"
)

// keys runs "keys" with its arguments.
func keys(ctx context.Context, cfg Config, db *postgres.DB, args []string, out io.Writer, log *slog.Logger) error {
	sealer, err := cfg.sealer()
	if err != nil {
		return err
	}
	rotator := signing.NewRotator(cfg.Issuer, cfg.policy(), store.NewKeys(db), sealer, log)
	switch {
	case len(args) == 1 && args[0] == "list":
	case len(args) == 1 && args[0] == "rotate":
		err = rotator.Rotate(ctx, true)
	case len(args) == 2 && args[0] == "revoke":
		err = rotator.Revoke(ctx, args[1])
	case len(args) == 1 && args[0] == "rewrap":
		err = rewrap(ctx, cfg.Issuer, sealer, db, out)
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
	return show(o, cfg.Issuer, sealer, out)
}

// rewrap puts all that is under a previous key-encryption key under the
// current one.
func rewrap(ctx context.Context, issuer string, sealer *seal.Sealer, db *postgres.DB, out io.Writer) error {
	stored := store.NewKeys(db)
	list, err := stored.List(ctx, issuer)
	if err != nil {
		return err
	}
	n, err := signing.Rewrap(ctx, sealer, issuer, list, stored)
	if err != nil {
		return err
	}
	factors, err := store.NewSecondFactors(db).Rewrap(ctx, func(user uuid.UUID, wrapped []byte) ([]byte, error) {
		return sealer.Rewrap(wrapped, totp.AAD(user))
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "put under PURSER_KEK: %d signing keys, %d second factors\n", n, factors)
	return err
}

func show(o signing.Overview, issuer string, sealer *seal.Sealer, out io.Writer) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "KID\tALGORITHM\tSTATE\tPUBLISHED\tACTIVE SINCE\tRETIRING SINCE\tKEK\t")
	for _, k := range o.Keys {
		state := string(k.State)
		if k.PromotedEarly {
			state += " (promoted early)"
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", k.KID, k.Algorithm, state, at(k.PublishedAt),
			at(k.ActivatedAt), at(k.RetiringAt), under(sealer, issuer, k))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	next := "as soon as a replica looks"
	if !o.NextStepAt.IsZero() {
		next = at(o.NextStepAt)
	}
	_, err := fmt.Fprintf(out, "epoch %d, next step %s\n", o.Epoch, next)
	return err
}

// under says which key-encryption key a signing key is under.
func under(sealer *seal.Sealer, issuer string, k signing.Key) string {
	if len(k.Wrapped) == 0 {
		return "-" // its private half is erased
	}
	switch current, err := signing.IsWrappedByCurrentKey(sealer, issuer, k); {
	case err != nil:
		return "UNKNOWN"
	case current:
		return "current"
	}
	return "PREVIOUS"
}

func at(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}
