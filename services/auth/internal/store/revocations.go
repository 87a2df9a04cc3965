package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/auth/internal/revocation"
)

// Kinds of revocations, as in authn.
const (
	revokedSession = "SESSION" // or API key, whose id is the session id of its tokens
	revokedUser    = "USER"
)

// maxInsertRows bounds the rows, and so the parameters, of an INSERT.
const maxInsertRows = 1000

// maxPruneRows is the number of rows that one DELETE removes.
const maxPruneRows = 1000

type revocationRow struct {
	Kind    string
	Subject uuid.UUID
}

func (revocationRow) TableName() string { return "revocations" }

// announce inserts revocations, which are streamed to verifiers after the commit
// (see package revocation).
func announce(tx *gorm.DB, kind string, subjects ...uuid.UUID) error {
	rows := make([]revocationRow, len(subjects))
	for i, id := range subjects {
		rows[i] = revocationRow{Kind: kind, Subject: id}
	}
	if err := tx.CreateInBatches(rows, maxInsertRows).Error; err != nil {
		return fmt.Errorf("announce revocation: %w", err)
	}
	return nil
}

// Revocations implements revocation.Store.
type Revocations struct{ db *postgres.DB }

// NewRevocations returns the revocations in db.
func NewRevocations(db *postgres.DB) *Revocations { return &Revocations{db: db} }

// Revocations implements revocation.Store. It is one statement, so that the epoch
// and the revoked keys are consistent.
func (s *Revocations) Revocations(ctx context.Context, issuer string, window,
	keyWindow time.Duration) (revocation.Reading, error) {
	var rows []struct {
		Epoch   int64
		Kind    *string
		Subject string
		At      time.Time
	}
	err := s.db.Gorm(ctx).Raw(`
		SELECT r.epoch, v.kind, coalesce(v.subject, '') AS subject, coalesce(v.at, now()) AS at
		FROM key_ring r LEFT JOIN LATERAL (
			SELECT kind, subject::text AS subject, at FROM revocations
			WHERE at > now() - @window * interval '1 microsecond'
			UNION ALL
			SELECT 'KEY', kid, revoked_at FROM signing_keys
			WHERE issuer = r.issuer AND state = 'REVOKED'
				AND revoked_at > now() - @keys * interval '1 microsecond'
		) v ON true
		WHERE r.issuer = @issuer
		ORDER BY v.at`, map[string]any{
		"issuer": issuer, "window": window.Microseconds(), "keys": keyWindow.Microseconds(),
	}).Scan(&rows).Error
	if err != nil {
		return revocation.Reading{}, fmt.Errorf("read revocations: %w", err)
	}
	if len(rows) == 0 {
		return revocation.Reading{}, errs.NotFound("key ring")
	}
	r := revocation.Reading{Epoch: rows[0].Epoch}
	for _, row := range rows {
		if row.Kind != nil {
			r.Entries = append(r.Entries, revocation.Entry{Kind: *row.Kind, Subject: row.Subject, At: row.At})
		}
	}
	return r, nil
}

// Prune deletes revocations that are older than retention, in batches.
func (s *Revocations) Prune(ctx context.Context, retention time.Duration) error {
	for {
		done := s.db.Gorm(ctx).Exec(`DELETE FROM revocations WHERE id IN (SELECT id FROM revocations
			WHERE at < now() - ? * interval '1 microsecond' LIMIT ?)`, retention.Microseconds(), maxPruneRows)
		if done.Error != nil {
			return fmt.Errorf("prune revocations: %w", done.Error)
		}
		if done.RowsAffected < maxPruneRows {
			return nil
		}
	}
}
