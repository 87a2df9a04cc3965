package store

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/auth/internal/audit"
)

const (
	// maxNumbered is how many events one transaction numbers.
	maxNumbered = 1000
	// maxScanned is how far one batch looks for events that a filter selects.
	maxScanned = 20_000
)

// lockChain makes the transactions that seal or number events run one after the other. A snapshot that is taken under
// it sees all that the one before has numbered.
func lockChain(tx *gorm.DB) error {
	if err := tx.Exec("LOCK TABLE audit_seals IN SHARE ROW EXCLUSIVE MODE").Error; err != nil {
		return fmt.Errorf("lock seals: %w", err)
	}
	return nil
}

// number gives committed events without a number the next ones, in the order of their ids. Because the numbers are
// given under one lock, a transaction that can see a number can see all smaller ones. more reports whether there may
// be more to number.
func (s *Audit) number(ctx context.Context) (more bool, err error) {
	var waiting bool
	err = s.db.Gorm(ctx).Raw("SELECT EXISTS (SELECT FROM audit_events WHERE feed_number IS NULL)").Scan(&waiting).Error
	if err != nil {
		return false, fmt.Errorf("look for new events: %w", err)
	}
	if !waiting {
		return false, nil
	}
	err = postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		if err := lockChain(tx); err != nil {
			return err
		}
		done := tx.Exec(`UPDATE audit_events e SET feed_number = last.number + fresh.n
			FROM (SELECT coalesce(max(feed_number), 0) AS number FROM audit_events) last,
				(SELECT id, row_number() OVER (ORDER BY id) AS n FROM audit_events
					WHERE feed_number IS NULL ORDER BY id LIMIT ?) fresh
			WHERE e.id = fresh.id`, maxNumbered)
		more = done.RowsAffected == maxNumbered
		if done.Error != nil {
			return fmt.Errorf("number events: %w", done.Error)
		}
		return nil
	})
	return more, err
}

type positionRow struct {
	ID         uuid.UUID
	FeedNumber *int64
}

// Position implements audit.FeedStore.
func (s *Audit) Position(ctx context.Context, event uuid.UUID) (audit.Position, error) {
	for {
		var row positionRow
		err := s.db.Gorm(ctx).Table("audit_events").Where("id = ?", event).Take(&row).Error
		if err != nil {
			return audit.Position{}, missing(err, "event")
		}
		if row.FeedNumber != nil {
			return audit.Position{Number: *row.FeedNumber, Event: event}, nil
		}
		if _, err := s.number(ctx); err != nil {
			return audit.Position{}, err
		}
	}
}

// After implements audit.FeedStore.
func (s *Audit) After(ctx context.Context, p audit.Position, f audit.Filter) (audit.Batch, error) {
	more, err := s.number(ctx)
	if err != nil {
		return audit.Batch{}, err
	}
	b := audit.Batch{Last: p, More: more}
	var end positionRow
	err = s.db.Gorm(ctx).Table("audit_events").Where("feed_number > ? AND feed_number <= ?", p.Number,
		p.Number+maxScanned).Order("feed_number DESC").Limit(1).Scan(&end).Error
	if err != nil {
		return b, fmt.Errorf("read the end of the feed: %w", err)
	}
	if end.FeedNumber == nil { // nothing new
		return b, nil
	}
	b.Last = audit.Position{Number: *end.FeedNumber, Event: end.ID}
	b.More = b.More || b.Last.Number == p.Number+maxScanned
	if strings.ContainsRune(string(f.Type), 0) { // Postgres has no text with a NUL
		return b, nil
	}
	var rows []struct {
		Row        recordedRow `gorm:"embedded"`
		FeedNumber int64
	}
	q := s.selected(ctx, f).Where("e.feed_number > ? AND e.feed_number <= ?", p.Number, b.Last.Number).
		Order("e.feed_number").Limit(audit.MaxEventsPerBatch)
	if err := q.Scan(&rows).Error; err != nil {
		return b, fmt.Errorf("read events: %w", err)
	}
	for _, row := range rows {
		b.Events = append(b.Events, row.Row.recorded())
	}
	if len(rows) == audit.MaxEventsPerBatch {
		last := rows[len(rows)-1]
		b.Last, b.More = audit.Position{Number: last.FeedNumber, Event: last.Row.Event.ID}, true
	}
	return b, nil
}
