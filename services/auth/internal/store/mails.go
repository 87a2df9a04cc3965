package store

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/mail"
)

type mailRow struct {
	ID        uuid.UUID `gorm:"primaryKey"`
	UserID    *uuid.UUID
	Kind      string
	Recipient string
	Subject   string
	Body      string
	Mailbox   []byte
	Attempts  int
}

func (mailRow) TableName() string { return "mails" }

// Mails is the outbox of mails in Postgres. It implements mail.Store.
type Mails struct {
	db     *postgres.DB
	queued chan struct{}
}

// NewMails returns the outbox in db.
func NewMails(db *postgres.DB) *Mails { return &Mails{db: db, queued: make(chan struct{}, 1)} }

// Queued returns a channel that receives after this process has queued mails.
func (s *Mails) Queued() <-chan struct{} { return s.queued }

// signalQueued wakes the outbox after the commit of a transaction that queued
// mails. If it is not called, the outbox job sends them later.
func (s *Mails) signalQueued() {
	select {
	case s.queued <- struct{}{}:
	default: // a signal is pending already
	}
}

// queueMail adds a mail to the outbox in the transaction tx.
func queueMail(tx *gorm.DB, m mail.Mail) error {
	row := mailRow{ID: m.ID, UserID: orNil(m.User), Kind: string(m.Kind), Recipient: m.To, Subject: m.Subject,
		Body: m.Body}
	if m.PerMailbox {
		row.Mailbox = mailboxOf(m.To)
	}
	if err := tx.Create(&row).Error; err != nil {
		return fmt.Errorf("queue mail: %w", err)
	}
	return nil
}

// recentMails counts the mails of a kind from the last hour to a user, or to a mailbox unless that is nil, and says
// how long ago the last was. The user's row has to be locked, so that concurrent ones are counted.
func recentMails(tx *gorm.DB, user uuid.UUID, mailbox []byte, kind mail.Kind) (n int, sinceLast time.Duration,
	err error) {
	var row struct{ Count, Micros int64 }
	err = tx.Raw(`SELECT count(*), coalesce(extract(epoch FROM clock_timestamp() - max(queued_at)) * 1e6, 0)::bigint
			AS micros
		FROM mails WHERE (user_id = ? OR mailbox = ?) AND kind = ?
			AND queued_at > clock_timestamp() - interval '1 hour'`, user, mailbox, kind).Scan(&row).Error
	if err != nil {
		return 0, 0, fmt.Errorf("count mails: %w", err)
	}
	return int(row.Count), time.Duration(row.Micros) * time.Microsecond, nil
}

// mailboxOf returns what is stored of a receiver to count the mails that a mailbox gets, also after they were sent.
func mailboxOf(email string) []byte {
	sum := sha256.Sum256([]byte(email))
	return sum[:]
}

// eraseMails erases the mails of a user who is about to be deleted, and leaves those that count against a mailbox as a
// count.
func eraseMails(tx *gorm.DB, user uuid.UUID) error {
	err := tx.Exec(`UPDATE mails SET user_id = NULL, recipient = '', subject = '', body = '', last_error = '',
			dead_at = CASE WHEN sent_at IS NULL THEN coalesce(dead_at, clock_timestamp()) END
		WHERE user_id = ? AND mailbox IS NOT NULL`, user).Error
	if err != nil {
		return fmt.Errorf("erase mails: %w", err)
	}
	return nil
}

// lockMailbox reads the state of an address. The lock lasts until the end of the transaction, so that those who ask
// for mails to one address are counted one after the other. It comes after the locks on accounts, and nothing is
// locked after it.
func lockMailbox(tx *gorm.DB, email string) (m account.Mailbox, err error) {
	if err := tx.Exec("SELECT pg_advisory_xact_lock(hashtextextended('purser: mailbox ' || ?, 0))",
		email).Error; err != nil {
		return m, fmt.Errorf("lock mailbox: %w", err)
	}
	err = tx.Raw(`SELECT EXISTS (SELECT FROM users WHERE email = ?) AS taken,
			(SELECT count(*) FROM mails WHERE mailbox = ? AND queued_at > clock_timestamp() - interval '1 hour')
				AS recent_mails`, email, mailboxOf(email)).Scan(&m).Error
	if err != nil {
		return m, fmt.Errorf("read mailbox: %w", err)
	}
	return m, nil
}

// Claim implements mail.Store.
func (s *Mails) Claim(ctx context.Context, n int, lease time.Duration) ([]mail.Claimed, error) {
	var rows []mailRow
	err := s.db.Gorm(ctx).Raw(`WITH due AS (
			SELECT id FROM mails WHERE sent_at IS NULL AND dead_at IS NULL AND due_at <= clock_timestamp()
			ORDER BY due_at LIMIT ? FOR UPDATE SKIP LOCKED)
		UPDATE mails m SET attempts = attempts + 1, due_at = clock_timestamp() + ? * interval '1 microsecond'
		FROM due WHERE m.id = due.id
		RETURNING m.id, user_id, kind, recipient, subject, body, attempts`, n, lease.Microseconds()).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("claim mails: %w", err)
	}
	slices.SortFunc(rows, func(a, b mailRow) int { return slices.Compare(a.ID[:], b.ID[:]) }) // UUIDv7
	claimed := make([]mail.Claimed, len(rows))
	for i, r := range rows {
		claimed[i] = mail.Claimed{Attempt: r.Attempts,
			Mail: mail.Mail{ID: r.ID, Kind: mail.Kind(r.Kind), To: r.Recipient, Subject: r.Subject, Body: r.Body}}
		if r.UserID != nil {
			claimed[i].User = *r.UserID
		}
	}
	return claimed, nil
}

// MarkSent implements mail.Store.
func (s *Mails) MarkSent(ctx context.Context, id uuid.UUID) error {
	return s.finish(ctx, id, "sent_at = clock_timestamp(), recipient = '', subject = '', body = '', last_error = ''")
}

// MarkFailed implements mail.Store.
func (s *Mails) MarkFailed(ctx context.Context, id uuid.UUID, reason string) error {
	return s.finish(ctx, id, "dead_at = clock_timestamp(), recipient = '', subject = '', body = '', last_error = ?",
		reason)
}

// Retry implements mail.Store.
func (s *Mails) Retry(ctx context.Context, id uuid.UUID, reason string, retryIn time.Duration) error {
	return s.finish(ctx, id, "due_at = clock_timestamp() + ? * interval '1 microsecond', last_error = ?",
		retryIn.Microseconds(), reason)
}

// finish records the result of an attempt, unless another replica has recorded a
// final one.
func (s *Mails) finish(ctx context.Context, id uuid.UUID, set string, args ...any) error {
	err := s.db.Gorm(ctx).Exec("UPDATE mails SET "+set+" WHERE id = ? AND sent_at IS NULL AND dead_at IS NULL",
		append(args, id)...).Error
	if err != nil {
		return fmt.Errorf("record the result of a mail: %w", err)
	}
	return nil
}

// Prune deletes the mails that were sent or given up more than retention ago, and the counts that deleted users have
// left once they count no more.
func (s *Mails) Prune(ctx context.Context, retention time.Duration) error {
	err := s.db.Gorm(ctx).Exec(`DELETE FROM mails
		WHERE coalesce(sent_at, dead_at) < clock_timestamp() - ? * interval '1 microsecond'
			OR user_id IS NULL AND mailbox IS NOT NULL AND queued_at < clock_timestamp() - interval '1 hour'`,
		retention.Microseconds()).Error
	if err != nil {
		return fmt.Errorf("prune mails: %w", err)
	}
	return nil
}
