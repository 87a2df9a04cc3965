package app

import (
	"cmp"
	"context"
	"time"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/mail"
	"github.com/purserhq/purser/services/auth/internal/password"
	"github.com/purserhq/purser/services/auth/internal/store"
	"github.com/purserhq/purser/services/internal/chassis"
)

// newTexts returns the texts of mails, and lets the events that are recorded in db notify with them.
func newTexts(ctx context.Context, db *postgres.DB, mails *store.Mails, cfg mail.Config) (*mail.Texts, error) {
	texts, err := mail.NewTexts(cfg.Links)
	if err != nil {
		return nil, err
	}
	return texts, store.NewNotices(texts, cfg.NoticesOff, cfg.PerHour, mails).Start(ctx, db)
}

// newHasher returns what hashes passwords, in a process of its own unless cfg says otherwise.
func newHasher(b *chassis.Builder, cfg Config) (*password.Hasher, error) {
	slots := cmp.Or(cfg.HashesAtOnce, password.MaxConcurrent())
	if !cfg.PasswordProcess {
		password.ShareProcessor()
		return password.New(slots, hashSource)
	}
	hasher, err := password.New(slots, hashSource)
	if err != nil {
		return nil, err
	}
	hasher.UseProcess(b.Log)
	b.OnClose("password process", hasher.Close)
	return hasher, nil
}

// newAccounts wires registration, profiles and passwords.
func newAccounts(s account.Store, texts *mail.Texts, hasher *password.Hasher, events *store.Audit,
	cfg Config) (*account.Service, error) {
	breaches, err := password.NewBreaches(cfg.BreachedAPI)
	if err != nil {
		return nil, err
	}
	return account.NewService(account.Deps{
		Store: s, Passwords: hasher, Breaches: breaches, Texts: texts, Audit: events, Now: time.Now,
	}, account.Policy{MinPassword: cfg.MinPassword, MailsPerHour: cfg.Mail.PerHour,
		DeletionGrace: cfg.DeletionGrace}), nil
}
