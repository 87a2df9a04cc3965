package app

import (
	"context"
	"log/slog"

	"github.com/purserhq/purser/pkg/lifecycle"
	"github.com/purserhq/purser/services/auth/internal/mail"
	"github.com/purserhq/purser/services/auth/internal/store"
)

// newMailSender adds to g a loop that sends mails as soon as they are queued. It
// returns nil when no SMTP server is set.
func newMailSender(g *lifecycle.Group, mails *store.Mails, cfg mail.Config, log *slog.Logger) (*mail.Outbox, error) {
	if cfg.Addr == "" {
		log.Warn("PURSER_SMTP_ADDR is not set: no mail is sent, mails wait in the outbox")
		return nil, nil //nolint:nilnil // the SMTP server is optional
	}
	carrier, err := mail.NewSMTP(cfg)
	if err != nil {
		return nil, err
	}
	sender := mail.NewOutbox(mails, carrier, cfg.Attempts, log)
	g.Loop("mails", func(ctx context.Context) error { return sender.Run(ctx, mails.Queued()) })
	return sender, nil
}
