package app

import (
	"time"

	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/mail"
	"github.com/purserhq/purser/services/auth/internal/password"
	"github.com/purserhq/purser/services/auth/internal/store"
)

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
