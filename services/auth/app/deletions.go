package app

import (
	"time"

	"github.com/purserhq/purser/services/auth/internal/deletion"
	"github.com/purserhq/purser/services/auth/internal/mail"
	"github.com/purserhq/purser/services/auth/internal/store"
	"github.com/purserhq/purser/services/internal/chassis"
)

// newDeletions wires the deletion of accounts, and the metric of what services have not erased yet.
func newDeletions(b *chassis.Builder, accounts *store.Accounts, texts *mail.Texts) (*deletion.Service, error) {
	deletions := store.NewDeletions(accounts)
	end, err := deletion.Observe(deletions.Unerased)
	if err != nil {
		return nil, err
	}
	b.OnClose("metric of deletions", end)
	return deletion.NewService(deletions, texts, time.Now), nil
}
