package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/auth/internal/mail"
)

type mailRow struct {
	ID        uuid.UUID `gorm:"primaryKey"`
	UserID    *uuid.UUID
	Kind      string
	Recipient string
	Subject   string
	Body      string
	Attempts  int
}

func (mailRow) TableName() string { return "mails" }

// Mails is the outbox of mails. It implements mail.Store.
type Mails struct {
	db    *postgres.DB
	woken chan struct{}
}

// NewMails returns the outbox in db.
func NewMails(db *postgres.DB) *Mails { return &Mails{db: db, woken: make(chan struct{}, 1)} }

// Woken tells that something may have been queued by this process.
func (s *Mails) Woken() <-chan struct{} { return s.woken }

// wake is called once what was queued is committed. It is no matter when it
// isn't: a job looks after what is left.
func (s *Mails) wake() {
	select {
	case s.woken <- struct{}{}:
	default: // it is awake
	}
}

// queue sends a mail when the transaction is committed.
func queue(tx *gorm.DB, m mail.Mail) error {
	row := mailRow{ID: m.ID, UserID: orNil(m.User), Kind: string(m.Kind), Recipient: m.To, Subject: m.Subject,
		Body: m.Body}
	if err := tx.Create(&row).Error; err != nil {
		return fmt.Errorf("queue mail: %w", err)
	}
	return nil
}

// Take implements mail.Store.
func (s *Mails) Take(ctx context.Context, n int, putOff time.Duration) ([]mail.Taken, error) {
	var rows []mailRow
	err := s.db.Gorm(ctx).Raw(`UPDATE mails SET attempts = attempts + 1, due_at = clock_timestamp() + ? * interval '1 microsecond'
		WHERE id IN (SELECT id FROM mails WHERE sent_at IS NULL AND dead_at IS NULL AND due_at <= clock_timestamp()
			ORDER BY due_at LIMIT ? FOR UPDATE SKIP LOCKED)
		RETURNING id, user_id, kind, recipient, subject, body, attempts`, putOff.Microseconds(), n).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("take mails: %w", err)
	}
	slices.SortFunc(rows, func(a, b mailRow) int { return slices.Compare(a.ID[:], b.ID[:]) }) // UUIDv7
	taken := make([]mail.Taken, len(rows))
	for i, r := range rows {
		taken[i] = mail.Taken{Attempt: r.Attempts,
			Mail: mail.Mail{ID: r.ID, Kind: mail.Kind(r.Kind), To: r.Recipient, Subject: r.Subject, Body: r.Body}}
		if r.UserID != nil {
			taken[i].User = *r.UserID
		}
	}
	return taken, nil
}

// Sent implements mail.Store.
func (s *Mails) Sent(ctx context.Context, id uuid.UUID) error {
	return s.settle(ctx, id, "sent_at = clock_timestamp(), recipient = '', subject = '', body = '', last_error = ''")
}

// GiveUp implements mail.Store.
func (s *Mails) GiveUp(ctx context.Context, id uuid.UUID, reason string) error {
	return s.settle(ctx, id, "dead_at = clock_timestamp(), recipient = '', subject = '', body = '', last_error = ?",
		reason)
}

// PutOff implements mail.Store.
func (s *Mails) PutOff(ctx context.Context, id uuid.UUID, reason string, again time.Duration) error {
	return s.settle(ctx, id, "due_at = clock_timestamp() + ? * interval '1 microsecond', last_error = ?",
		again.Microseconds(), reason)
}

// settle notes what came of a mail. One that another replica has sent meanwhile
// stays sent.
func (s *Mails) settle(ctx context.Context, id uuid.UUID, set string, args ...any) error {
	err := s.db.Gorm(ctx).Exec("UPDATE mails SET "+set+" WHERE id = ? AND sent_at IS NULL AND dead_at IS NULL",
		append(args, id)...).Error
	if err != nil {
		return fmt.Errorf("settle mail: %w", err)
	}
	return nil
}

// Prune deletes the mails that were sent or given up longer than keep ago.
func (s *Mails) Prune(ctx context.Context, keep time.Duration) error {
	err := s.db.Gorm(ctx).Exec("DELETE FROM mails WHERE coalesce(sent_at, dead_at) < clock_timestamp() - ? * "+
		"interval '1 microsecond'", keep.Microseconds()).Error
	if err != nil {
		return fmt.Errorf("prune mails: %w", err)
	}
	return nil
}
