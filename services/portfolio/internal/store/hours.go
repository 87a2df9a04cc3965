package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

var validMemberships = fmt.Sprintf(membershipPeriods, "@id")

// MissingHours implements snapshot.Store. An hour without wallets is missing only if it
// has a snapshot that is out of date.
func (s *Snapshots) MissingHours(ctx context.Context, portfolioID uuid.UUID, first, until time.Time,
	limit int) ([]time.Time, error) {
	return s.hours(ctx, `
		WITH m AS (`+validMemberships+`)
		SELECT hour
		FROM generate_series(CAST(@first AS timestamptz), CAST(@until AS timestamptz) - interval '1 hour',
			interval '1 hour') AS hour
		LEFT JOIN m ON m.valid_from <= hour AND m.valid_until > hour
		LEFT JOIN snapshots s ON s.portfolio_id = @id AND s.bucket = hour AND s.bucket >= @first AND s.bucket < @until
		WHERE CASE WHEN s.bucket IS NULL THEN m.no_wallets IS NOT TRUE
		           ELSE NOT s.complete OR s.membership <> coalesce(m.number, 0) END
		ORDER BY hour LIMIT @limit`, portfolioID, first, until, limit)
}

// OutOfDateHours implements snapshot.Store.
func (s *Snapshots) OutOfDateHours(ctx context.Context, portfolioID uuid.UUID, first, until time.Time,
	limit int) ([]time.Time, error) {
	return s.hours(ctx, `
		WITH m AS (`+validMemberships+`)
		SELECT s.bucket
		FROM snapshots s LEFT JOIN m ON m.valid_from <= s.bucket AND m.valid_until > s.bucket
		WHERE s.portfolio_id = @id AND s.bucket >= @first AND s.bucket < @until
		  AND s.membership <> coalesce(m.number, 0)
		ORDER BY s.bucket LIMIT @limit`, portfolioID, first, until, limit)
}

func (s *Snapshots) hours(ctx context.Context, query string, portfolioID uuid.UUID, first, until time.Time,
	limit int) (hours []time.Time, err error) {
	err = s.db.Gorm(ctx).Raw(query, map[string]any{"id": portfolioID, "first": first.UTC(), "until": until.UTC(),
		"limit": limit}).Scan(&hours).Error
	if err != nil {
		return nil, fmt.Errorf("read hours without a snapshot, or with one that is out of date: %w", err)
	}
	for i := range hours {
		hours[i] = hours[i].UTC()
	}
	return hours, nil
}

// noteLate notes that snapshots were stored whose portfolio had other wallets by then. The
// number that it leaves out tells whoever recomputes the portfolio at this moment.
func noteLate(ctx context.Context, conn *pgx.Conn, late []portfolioHour) error {
	for _, of := range late { // by a race only
		_, err := conn.Exec(ctx, `UPDATE portfolios SET last_membership = last_membership + 1,
			recompute_from = least(recompute_from, $2), recompute_at = clock_timestamp() WHERE id = $1`,
			of.portfolio, time.Unix(of.hour, 0).UTC())
		if err != nil {
			return fmt.Errorf("note a snapshot that is out of date: %w", err)
		}
	}
	return nil
}
