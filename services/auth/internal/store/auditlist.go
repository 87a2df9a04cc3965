package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/services/auth/internal/audit"
)

// recordedRow is an event with where it came from, as long as that is kept.
type recordedRow struct {
	Event   auditRow `gorm:"embedded"`
	Seal    *int64
	Address *string
	Device  *string
}

func (r recordedRow) recorded() audit.Recorded {
	e := audit.Recorded{
		ID: r.Event.ID, At: r.Event.At.UTC(),
		Event: audit.Event{
			Type: audit.Type(r.Event.Type), Outcome: audit.Outcome(r.Event.Outcome), Reason: r.Event.Reason,
			Actor: orNone(r.Event.Actor), Subject: orNone(r.Event.Subject), Object: r.Event.Object,
		},
	}
	if r.Seal != nil {
		e.Seal = *r.Seal
	}
	if r.Address != nil && r.Device != nil {
		e.Client = audit.Client{Address: *r.Address, Device: *r.Device}
	}
	return e
}

// orNone is the way back from orNil.
func orNone(id *uuid.UUID) uuid.UUID {
	if id == nil {
		return uuid.Nil
	}
	return *id
}

// List implements audit.Reader. Ids are UUIDv7, so their order is that of time,
// and they bound it.
func (s *Audit) List(ctx context.Context, f audit.Filter) ([]audit.Recorded, error) {
	if strings.ContainsRune(string(f.Type), 0) { // which no text in Postgres can hold
		return nil, nil
	}
	q := s.db.Gorm(ctx).Table("audit_events e").Select("e.*, p.address, p.device").
		Joins("LEFT JOIN audit_personal p ON p.event_id = e.id").Order("e.id DESC").Limit(f.Limit)
	where := func(asked bool, condition string, args ...any) {
		if asked {
			q = q.Where(condition, args...)
		}
	}
	where(f.Subject != uuid.Nil, "e.subject = ?", f.Subject)
	where(f.Actor != uuid.Nil, "e.actor = ?", f.Actor)
	where(f.Type != "", "e.type = ?", string(f.Type))
	where(f.Outcome != "", "e.outcome = ?", string(f.Outcome))
	where(f.Before != uuid.Nil, "e.id < ?", f.Before)
	where(!f.From.IsZero(), "e.at >= ? AND e.id >= ?", f.From, firstOf(f.From.Add(-idMargin)))
	where(!f.Until.IsZero(), "e.at < ? AND e.id < ?", f.Until, firstOf(f.Until.Add(idMargin)))
	var rows []recordedRow
	if err := q.Scan(&rows).Error; err != nil {
		return nil, fmt.Errorf("list events: %w", err)
	}
	events := make([]audit.Recorded, len(rows))
	for i, row := range rows {
		events[i] = row.recorded()
	}
	return events, nil
}

// idMargin is how far an event's id and time may be apart.
const idMargin = time.Minute

// firstOf is the lowest UUIDv7 of an instant.
func firstOf(at time.Time) (id uuid.UUID) {
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(max(at.UnixMilli(), 0)))
	copy(id[:6], ms[2:])
	id[6] = 0x70
	return id
}
