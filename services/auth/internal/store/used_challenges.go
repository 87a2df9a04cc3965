package store

import (
	"context"
	"fmt"
	"time"

	"github.com/purserhq/purser/pkg/postgres"
)

// UsedChallenges implements challenge.Claims.
type UsedChallenges struct{ db *postgres.DB }

// NewUsedChallenges returns the used challenges in db.
func NewUsedChallenges(db *postgres.DB) *UsedChallenges { return &UsedChallenges{db} }

// Claim implements challenge.Claims. It also removes some that expired an hour ago: no clock is that far behind.
func (s *UsedChallenges) Claim(ctx context.Context, key string, use int, expires time.Time) (bool, error) {
	result := s.db.Gorm(ctx).Exec(`WITH expired AS (
			SELECT key FROM used_challenges WHERE expires_at < now() - interval '1 hour' LIMIT 10
			FOR UPDATE SKIP LOCKED),
		removed AS (DELETE FROM used_challenges u USING expired WHERE u.key = expired.key)
		INSERT INTO used_challenges (key, expires_at) VALUES (?, ?) ON CONFLICT DO NOTHING`,
		fmt.Sprintf("%s:%d", key, use), expires)
	if result.Error != nil {
		return false, fmt.Errorf("claim a challenge: %w", result.Error)
	}
	return result.RowsAffected == 1, nil
}
