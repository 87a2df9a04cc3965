package app

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/portfolio/internal/store"
	"github.com/purserhq/purser/services/portfolio/internal/webhook"
)

// rewrapWebhooks puts what is under a previous key-encryption key under the present one. errs.FailedPrecondition
// (WEBHOOKS_NOT_CONFIGURED, KEK_WRONG): the latter after all others, where neither key opens a secret.
func rewrapWebhooks(ctx context.Context, cfg Config, db *postgres.DB, out io.Writer) error {
	sealer, err := cfg.Webhooks.sealer()
	if err != nil {
		return err
	}
	if sealer == nil {
		return errs.FailedPrecondition("WEBHOOKS_NOT_CONFIGURED", "PURSER_WEBHOOKS_KEK is not set")
	}
	done, err := webhook.Rewrap(ctx, store.NewAlerts(db, func() {}), sealer, time.Now())
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(out, "put under PURSER_WEBHOOKS_KEK: the secrets of %d webhook endpoints\n",
		done.Endpoints); err != nil {
		return err
	}
	if done.Lost > 0 {
		return errs.FailedPrecondition("KEK_WRONG", fmt.Sprintf("%d webhook endpoints have a secret that is under "+
			"neither PURSER_WEBHOOKS_KEK nor PURSER_WEBHOOKS_KEK_PREVIOUS: set the right keys, or their owners have "+
			"to rotate the secrets", done.Lost))
	}
	return nil
}
