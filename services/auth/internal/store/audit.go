package store

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/auth/internal/audit"
)

type auditRow struct {
	ID             uuid.UUID `gorm:"primaryKey"`
	At             time.Time
	Type           string
	Outcome        string
	Reason         string
	Actor          *uuid.UUID
	Subject        *uuid.UUID
	Object         string
	PersonalDigest []byte
}

func (auditRow) TableName() string { return "audit_events" }

type auditPersonalRow struct {
	EventID   uuid.UUID `gorm:"primaryKey"`
	Subject   *uuid.UUID
	Salt      []byte
	IPAddress string
	UserAgent string
}

func (auditPersonalRow) TableName() string { return "audit_personal" }

// Audit is the audit log in Postgres. It implements audit.Recorder, audit.Reader
// and audit.ChainStore.
type Audit struct{ db *postgres.DB }

// NewAudit returns the audit log in db.
func NewAudit(db *postgres.DB) *Audit { return &Audit{db: db} }

// Record implements audit.Recorder. It ignores the cancellation of ctx, so that the
// caller can't prevent the record by hanging up.
func (s *Audit) Record(ctx context.Context, e audit.Event) error {
	return postgres.InTx(context.WithoutCancel(ctx), s.db, func(tx *gorm.DB) error { return record(tx, e) })
}

// record inserts an event in the transaction tx, with the audit.Client of its
// context, and queues the notice about it; see Notices.
func record(tx *gorm.DB, e audit.Event) error {
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("new event id: %w", err)
	}
	if e.Outcome == "" {
		e.Outcome = audit.OK
	}
	client := audit.ClientFrom(tx.Statement.Context)
	salt := make([]byte, 32)
	_, _ = rand.Read(salt) // never fails: crypto/rand ends the program instead
	row := auditRow{
		ID: id, At: time.Now().UTC().Truncate(time.Microsecond), Type: string(e.Type), Outcome: string(e.Outcome),
		Reason: e.Reason,
		Actor:  orNil(e.Actor), Subject: orNil(e.Subject), Object: e.Object, PersonalDigest: client.Digest(salt),
	}
	if err := tx.Create(&row).Error; err != nil {
		return fmt.Errorf("record event: %w", err)
	}
	personal := auditPersonalRow{EventID: id, Subject: row.Subject, Salt: salt, IPAddress: client.IPAddress,
		UserAgent: client.UserAgent}
	if err := tx.Create(&personal).Error; err != nil {
		return fmt.Errorf("record client of event: %w", err)
	}
	return queueNotice(tx, e, row.At, client)
}

// orNil is nil for the zero id.
func orNil(id uuid.UUID) *uuid.UUID {
	if id == uuid.Nil {
		return nil
	}
	return &id
}
