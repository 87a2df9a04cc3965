package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/google/uuid"

	"github.com/purserhq/purser/services/portfolio/internal/alert"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// Due implements alert.EvaluationStore.
func (s *Alerts) Due(ctx context.Context, owners []uuid.UUID, at time.Time) error {
	if len(owners) == 0 {
		return nil
	}
	err := s.db.Gorm(ctx).Exec("UPDATE alert_owners SET due_at = ? WHERE owner_id IN ?", at.UTC(), owners).Error
	if err != nil {
		return fmt.Errorf("have rules looked at: %w", err)
	}
	return nil
}

// AllDue marks all owners with rules as due.
func (s *Alerts) AllDue(ctx context.Context, at time.Time) error {
	err := s.db.Gorm(ctx).Exec("UPDATE alert_owners SET due_at = ? WHERE due_at > ?", at.UTC(), at.UTC()).Error
	if err != nil {
		return fmt.Errorf("have all rules looked at: %w", err)
	}
	return nil
}

// Claim implements alert.EvaluationStore. A row that another replica claims at the same time isn't waited for.
func (s *Alerts) Claim(ctx context.Context, now, until time.Time, n int,
	without []uuid.UUID) ([]alert.DueOwner, error) {
	until = until.UTC().Truncate(time.Microsecond)
	var owners []uuid.UUID
	err := s.db.Gorm(ctx).Raw(`WITH due AS (
			SELECT owner_id FROM alert_owners WHERE due_at <= ? AND owner_id NOT IN ? ORDER BY due_at LIMIT ?
			FOR UPDATE SKIP LOCKED)
		UPDATE alert_owners a SET due_at = ? FROM due WHERE a.owner_id = due.owner_id
		RETURNING a.owner_id`, now.UTC(), append(without, uuid.Nil), n, until).Scan(&owners).Error
	if err != nil {
		return nil, fmt.Errorf("claim owners with rules: %w", err)
	}
	due := make([]alert.DueOwner, len(owners))
	for i, owner := range owners {
		due[i] = alert.DueOwner{Owner: owner, Until: until}
	}
	return due, nil
}

// Finish implements alert.EvaluationStore.
func (s *Alerts) Finish(ctx context.Context, due alert.DueOwner, next time.Time) error {
	// Whoever makes a rule changes due_at too, so that this doesn't delete their row.
	done := s.db.Gorm(ctx).Exec(`DELETE FROM alert_owners WHERE owner_id = ? AND due_at = ?
		AND NOT EXISTS (SELECT FROM alert_rules WHERE owner_id = ? AND NOT disabled)`, due.Owner, due.Until, due.Owner)
	if done.Error == nil && done.RowsAffected == 0 {
		done = s.db.Gorm(ctx).Exec("UPDATE alert_owners SET due_at = ? WHERE owner_id = ? AND due_at = ?", next.UTC(),
			due.Owner, due.Until)
	}
	if done.Error != nil {
		return fmt.Errorf("finish a look at rules: %w", done.Error)
	}
	return nil
}

// Enabled implements alert.EvaluationStore.
func (s *Alerts) Enabled(ctx context.Context, owner uuid.UUID) ([]alert.Rule, error) {
	var rows []ruleRow
	err := s.db.Gorm(ctx).Where("owner_id = ? AND NOT disabled", owner).Order("id").Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read rules: %w", err)
	}
	return rulesFromRows(rows)
}

// Drop implements alert.EvaluationStore.
func (s *Alerts) Drop(ctx context.Context, owner, portfolio uuid.UUID) error {
	err := s.db.Gorm(ctx).Exec(`DELETE FROM alert_rules WHERE owner_id = ? AND portfolio_id = ?
		AND NOT EXISTS (SELECT FROM portfolios WHERE id = ?)`, owner, portfolio, portfolio).Error
	if err != nil {
		return fmt.Errorf("drop the rules of a deleted portfolio: %w", err)
	}
	return nil
}

// TotalAt implements alert.EvaluationStore.
func (s *Alerts) TotalAt(ctx context.Context, portfolio uuid.UUID, at time.Time) (*apd.Decimal, error) {
	var text string
	err := s.db.Gorm(ctx).Raw(`SELECT total FROM snapshots WHERE portfolio_id = ? AND measurable AND NOT price_gap
		AND bucket <= ? AND bucket > ? ORDER BY bucket DESC LIMIT 1`, portfolio, at.UTC(),
		at.UTC().Add(-24*time.Hour)).Row().Scan(&text)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, nil //nolint:nilnil // none is no error
	case err != nil:
		return nil, fmt.Errorf("read a total: %w", err)
	}
	return parseDecimal(text)
}

// HighestTotal implements alert.EvaluationStore. It is the highest of GetKpi.
func (s *Alerts) HighestTotal(ctx context.Context, portfolio uuid.UUID) (*apd.Decimal, error) {
	peak, err := NewSnapshots(s.db, nil).HighestSnapshot(ctx, portfolio, valuation.Currency)
	if err != nil || peak == nil {
		return nil, err
	}
	return peak.Total, nil
}
