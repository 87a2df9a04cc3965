package store

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/mail"
)

// Notices mail the owners of accounts about what is recorded of them, see mail.NoticeOf: the mail is queued in the
// transaction of the event. Only an address that is verified gets one: any other may be a stranger's, whom somebody
// could flood by registering their address.
//
// An account is mailed at most so many notices of a kind an hour. Kinds are counted apart, so that a flood of one
// silences no other; the last mail before the limit says that no other follows.
//
// It is a plugin of gorm's, so that it belongs to a database: whatever records an event there notifies.
type Notices struct {
	texts      *mail.Texts
	off        []mail.Kind
	maxPerHour int
	mails      *Mails
}

const noticesName = "purser: notices"

// NewNotices returns notices with these texts, but none of the kinds in off. mails is woken when one was queued.
func NewNotices(texts *mail.Texts, off []mail.Kind, maxPerHour int, mails *Mails) *Notices {
	return &Notices{texts: texts, off: off, maxPerHour: maxPerHour, mails: mails}
}

// Start makes events that are recorded in db from now on notify. Call it before db is used by others.
func (n *Notices) Start(ctx context.Context, db *postgres.DB) error {
	if err := db.Gorm(ctx).Use(n); err != nil {
		return fmt.Errorf("notices: %w", err)
	}
	return nil
}

// Name implements gorm.Plugin.
func (n *Notices) Name() string { return noticesName }

// Initialize implements gorm.Plugin.
func (n *Notices) Initialize(*gorm.DB) error { return nil }

// noticesOf returns the notices of a database, nil where nobody is notified.
func noticesOf(db *gorm.DB) *Notices {
	n, _ := db.Plugins[noticesName].(*Notices)
	return n
}

type queuedKey struct{}

// inTx is postgres.InTx; after the commit it wakes the outbox if a notice was queued. A notice that is queued in
// another transaction waits for the job of the outbox.
func inTx(ctx context.Context, db *postgres.DB, fn func(tx *gorm.DB) error) error {
	var queued atomic.Bool
	ctx = context.WithValue(ctx, queuedKey{}, &queued)
	err := postgres.InTx(ctx, db, fn)
	if queued.Load() {
		noticesOf(db.Gorm(ctx)).mails.signalQueued()
	}
	return err
}

// queueNotice queues the mail about an event, if there is one. The transaction holds the lock on the account, so that
// concurrent ones are counted.
func queueNotice(tx *gorm.DB, e audit.Event, at time.Time, client audit.Client) error {
	n, kind, ok := noticesOf(tx), mail.Kind(""), false
	if n != nil && e.Subject != uuid.Nil {
		kind, ok = mail.NoticeOf(e)
	}
	if !ok || slices.Contains(n.off, kind) {
		return nil
	}
	var owner userRow
	err := tx.Select("id", "email").Where("id = ? AND email_verified_at IS NOT NULL", e.Subject).Limit(1).Find(
		&owner).Error
	if err != nil {
		return fmt.Errorf("read whom to notify: %w", err)
	}
	sent, _, err := recentMails(tx, e.Subject, nil, kind)
	if err != nil || sent >= n.maxPerHour {
		return err
	}
	data := mail.Data{At: at, From: client.IPAddress, Details: e.Notice.Details, Last: sent+1 >= n.maxPerHour,
		ByAdmin: e.Actor != uuid.Nil && e.Actor != e.Subject}
	for _, to := range []string{e.Notice.Also, orEmpty(owner.Email)} {
		if to == "" {
			continue
		}
		m, err := n.texts.Mail(kind, data)
		if err != nil {
			return err
		}
		m.User, m.To = e.Subject, to
		if err := queueMail(tx, m); err != nil {
			return err
		}
		if queued, ok := tx.Statement.Context.Value(queuedKey{}).(*atomic.Bool); ok {
			queued.Store(true)
		}
	}
	return nil
}
