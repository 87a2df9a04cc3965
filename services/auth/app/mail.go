package app

import (
	"context"
	"time"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/auth/internal/mail"
	"github.com/purserhq/purser/services/auth/internal/store"
	"github.com/purserhq/purser/services/internal/chassis"
	"github.com/purserhq/purser/services/internal/dependency"
)

// newTexts returns the texts of mails, and lets the events that are recorded in db notify with them.
func newTexts(ctx context.Context, db *postgres.DB, mails *store.Mails, cfg mail.Config) (*mail.Texts, error) {
	texts, err := mail.NewTexts(cfg.Links)
	if err != nil {
		return nil, err
	}
	return texts, store.NewNotices(texts, cfg.NoticesOff, cfg.PerHour, mails).Start(ctx, db)
}

// newMailSender adds to b a loop that sends mails as soon as they are queued. It
// returns nil when no SMTP server is set.
func newMailSender(b *chassis.Builder, mails *store.Mails, cfg mail.Config) (*mail.Outbox, error) {
	if cfg.Addr == "" {
		b.Log.Warn("PURSER_SMTP_ADDR is not set: no mail is sent, mails wait in the outbox")
		return nil, nil //nolint:nilnil // the SMTP server is optional
	}
	carrier, err := mail.NewSMTP(cfg)
	if err != nil {
		return nil, err
	}
	b.DependsOn(dependency.Check{
		Name: "mail", Address: cfg.Addr, Probe: carrier.Probe, Interval: dependency.FarInterval,
		Timeout: 5 * time.Second,
		Secrets: []string{cfg.User, cfg.Password.Reveal()},
		Effect:  "Mails with codes wait in the outbox, so that nobody can verify an address or reset a password.",
	})
	sender := mail.NewOutbox(mails, carrier, cfg.Attempts, b.Log)
	b.Loop("mails", func(ctx context.Context) error { return sender.Run(ctx, mails.Queued()) })
	return sender, nil
}
