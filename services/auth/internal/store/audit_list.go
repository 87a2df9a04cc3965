package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/services/auth/internal/audit"
)

// recordedRow is an event with its client, null once erased.
type recordedRow struct {
	Event     auditRow `gorm:"embedded"`
	Seal      *int64
	IPAddress *string
	UserAgent *string
}

func (r recordedRow) recorded() audit.RecordedEvent {
	e := audit.RecordedEvent{
		ID: r.Event.ID, At: r.Event.At.UTC(),
		Event: audit.Event{
			Type: audit.Type(r.Event.Type), Outcome: audit.Outcome(r.Event.Outcome), Reason: r.Event.Reason,
			Actor: orZeroID(r.Event.Actor), Subject: orZeroID(r.Event.Subject), Object: r.Event.Object,
		},
	}
	if r.Seal != nil {
		e.Seal = *r.Seal
	}
	if r.IPAddress != nil && r.UserAgent != nil {
		e.Client = audit.Client{IPAddress: *r.IPAddress, UserAgent: *r.UserAgent}
	}
	return e
}

// orZeroID is the inverse of orNil.
func orZeroID(id *uuid.UUID) uuid.UUID {
	if id == nil {
		return uuid.Nil
	}
	return *id
}

// List implements audit.Reader. Ids are UUIDv7, so the primary key is ordered by
// time, and a range of time is also a range of ids.
func (s *Audit) List(ctx context.Context, f audit.Filter) ([]audit.RecordedEvent, error) {
	if strings.ContainsRune(string(f.Type), 0) { // Postgres has no text with a NUL
		return nil, nil
	}
	q := s.selected(ctx, f).Order("e.id DESC").Limit(f.Limit)
	if f.Before != uuid.Nil {
		q = q.Where("e.id < ?", f.Before)
	}
	if !f.From.IsZero() {
		q = q.Where("e.at >= ? AND e.id >= ?", f.From, minID(f.From.Add(-idMargin)))
	}
	if !f.Until.IsZero() {
		q = q.Where("e.at < ? AND e.id < ?", f.Until, minID(f.Until.Add(idMargin)))
	}
	var rows []recordedRow
	if err := q.Scan(&rows).Error; err != nil {
		return nil, fmt.Errorf("list events: %w", err)
	}
	events := make([]audit.RecordedEvent, len(rows))
	for i, row := range rows {
		events[i] = row.recorded()
	}
	return events, nil
}

// selected selects events by who and what they are about.
func (s *Audit) selected(ctx context.Context, f audit.Filter) *gorm.DB {
	q := s.db.Gorm(ctx).Table("audit_events e").Select("e.*, p.ip_address, p.user_agent").
		Joins("LEFT JOIN audit_personal p ON p.event_id = e.id")
	where := func(filtered bool, condition string, arg any) {
		if filtered {
			q = q.Where(condition, arg)
		}
	}
	where(f.Subject != uuid.Nil, "e.subject = ?", f.Subject)
	where(f.Actor != uuid.Nil, "e.actor = ?", f.Actor)
	where(f.Type != "", "e.type = ?", string(f.Type))
	where(f.Outcome != "", "e.outcome = ?", string(f.Outcome))
	return q
}

// idMargin is the maximal difference between an event's time and the time in its id.
const idMargin = time.Minute

// minID returns the lowest UUIDv7 of an instant.
func minID(at time.Time) (id uuid.UUID) {
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(max(at.UnixMilli(), 0)))
	copy(id[:6], ms[2:])
	id[6] = 0x70
	return id
}
