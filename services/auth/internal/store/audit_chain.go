package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/auth/internal/audit"
)

type sealRow struct {
	Number   int64 `gorm:"primaryKey"`
	At       time.Time
	Events   int
	Previous []byte
	Hash     []byte
}

func (sealRow) TableName() string { return "audit_seals" }

func (r sealRow) seal() audit.Seal {
	s := audit.Seal{Number: r.Number, At: r.At, Events: r.Events}
	copy(s.Previous[:], r.Previous)
	copy(s.Hash[:], r.Hash)
	return s
}

// Seal implements audit.ChainStore.
func (s *Audit) Seal(ctx context.Context, limit int, makeSeal func(audit.Seal, []audit.SealedEvent) audit.Seal) (
	seal audit.Seal, sealed bool, err error) {
	err = postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		sealed = false
		if err := lockChain(tx); err != nil {
			return err
		}
		var last sealRow
		if err := tx.Order("number DESC").Limit(1).Find(&last).Error; err != nil {
			return fmt.Errorf("read last seal: %w", err)
		}
		events, err := sealedEvents(tx, "e.seal IS NULL", limit)
		if err != nil || len(events) == 0 {
			return err
		}
		sealed, seal = true, makeSeal(last.seal(), events)
		row := sealRow{Number: seal.Number, At: seal.At, Events: seal.Events, Previous: seal.Previous[:],
			Hash: seal.Hash[:]}
		if err := tx.Create(&row).Error; err != nil {
			return fmt.Errorf("create seal: %w", err)
		}
		ids := make([]uuid.UUID, len(events))
		for i, e := range events {
			ids[i] = e.ID
		}
		// Those that have no number in the feed yet are given one on the way, which costs no second write.
		err = tx.Exec(`UPDATE audit_events e
			SET seal = ?, feed_number = coalesce(e.feed_number, last.number + fresh.n)
			FROM (SELECT coalesce(max(feed_number), 0) AS number FROM audit_events) last,
				(SELECT id, row_number() OVER (ORDER BY id) AS n FROM audit_events WHERE id IN ?) fresh
			WHERE e.id = fresh.id`, seal.Number, ids).Error
		if err != nil {
			return fmt.Errorf("seal events: %w", err)
		}
		return nil
	})
	return seal, sealed, err
}

// Seals implements audit.ChainStore.
func (s *Audit) Seals(ctx context.Context, after int64, limit int) ([]audit.Seal, error) {
	var rows []sealRow
	if err := s.db.Gorm(ctx).Where("number > ?", after).Order("number").Limit(limit).Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("read seals: %w", err)
	}
	seals := make([]audit.Seal, len(rows))
	for i, row := range rows {
		seals[i] = row.seal()
	}
	return seals, nil
}

// Events implements audit.ChainStore.
func (s *Audit) Events(ctx context.Context, seal int64, limit int) ([]audit.SealedEvent, error) {
	return sealedEvents(s.db.Gorm(ctx), "e.seal = ?", limit, seal)
}

// CountUncovered implements audit.ChainStore.
func (s *Audit) CountUncovered(ctx context.Context, last int64) (beyond, unsealed int, oldest time.Time, err error) {
	var row struct {
		Beyond, Unsealed int
		Oldest           *time.Time
	}
	err = s.db.Gorm(ctx).Raw(`SELECT (SELECT count(*) FROM audit_events WHERE seal > ? OR seal < 1) AS beyond,
		count(*) AS unsealed, min(at) AS oldest FROM audit_events WHERE seal IS NULL`, last).Scan(&row).Error
	if err != nil {
		return 0, 0, time.Time{}, fmt.Errorf("count events: %w", err)
	}
	if row.Oldest != nil {
		oldest = *row.Oldest
	}
	return row.Beyond, row.Unsealed, oldest, nil
}

// sealedEvents returns up to limit events that meet a condition, in the order of
// their ids.
func sealedEvents(tx *gorm.DB, condition string, limit int, args ...any) ([]audit.SealedEvent, error) {
	var rows []struct {
		Event     auditRow `gorm:"embedded"`
		Salt      []byte
		IPAddress *string
		UserAgent *string
	}
	err := tx.Raw(`SELECT e.*, p.salt, p.ip_address, p.user_agent FROM audit_events e
		LEFT JOIN audit_personal p ON p.event_id = e.id WHERE `+condition+`
		ORDER BY e.id LIMIT ?`, append(args, limit)...).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	events := make([]audit.SealedEvent, len(rows))
	for i, row := range rows {
		r := row.Event
		events[i] = audit.SealedEvent{
			Event: audit.Event{
				Type: audit.Type(r.Type), Outcome: audit.Outcome(r.Outcome), Reason: r.Reason,
				Actor: orZeroID(r.Actor), Subject: orZeroID(r.Subject), Object: r.Object,
			},
			ID: r.ID, At: r.At, Digest: r.PersonalDigest, Salt: row.Salt,
		}
		if row.IPAddress != nil && row.UserAgent != nil {
			events[i].Client = &audit.Client{IPAddress: *row.IPAddress, UserAgent: *row.UserAgent}
		}
	}
	return events, nil
}
