package app

import (
	"context"
	"log/slog"
	"time"
	_ "time/tzdata" // time zones, also where the system has none

	"github.com/purserhq/purser/pkg/lifecycle"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/mail"
	"github.com/purserhq/purser/services/auth/internal/password"
	"github.com/purserhq/purser/services/auth/internal/store"
)

// newPost adds to g what sends mails as soon as they are queued; nil without an
// SMTP server.
func newPost(g *lifecycle.Group, mails *store.Mails, cfg mail.Config, log *slog.Logger) (*mail.Outbox, error) {
	if cfg.Addr == "" {
		log.Warn("no mail is sent: PURSER_SMTP_ADDR is not set; mails wait in the outbox until it is")
		return nil, nil //nolint:nilnil // there is none, as asked for
	}
	carrier, err := mail.NewSMTP(cfg)
	if err != nil {
		return nil, err
	}
	post := mail.NewOutbox(mails, carrier, cfg.Attempts, log)
	g.Loop("mails", func(ctx context.Context) error { return post.Run(ctx, mails.Queued()) })
	return post, nil
}

func newAccounts(s account.Store, hasher *password.Hasher, events *store.Audit, cfg Config) (*account.Service, error) {
	texts, err := mail.NewTexts(cfg.Mail.Links)
	if err != nil {
		return nil, err
	}
	breaches, err := password.NewBreaches(cfg.BreachedAPI)
	if err != nil {
		return nil, err
	}
	return account.NewService(account.Deps{
		Store: s, Passwords: hasher, Breaches: breaches, Texts: texts, Audit: events, Now: time.Now,
	}, account.Policy{MinPassword: cfg.MinPassword, MailsPerHour: cfg.Mail.PerHour}), nil
}
