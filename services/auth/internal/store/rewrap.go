package store

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/auth/internal/audit"
)

// rewrapPageSize is the number of rows that are read at once.
const rewrapPageSize = 500

// Rewrap implements signing.RewrapStore.
func (s *Keys) Rewrap(ctx context.Context, issuer, kid string, old, fresh []byte) error {
	return postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		done := tx.Exec("UPDATE signing_keys SET wrapped_key = ? WHERE issuer = ? AND kid = ? AND wrapped_key = ?",
			fresh, issuer, kid, old)
		if done.Error != nil {
			return fmt.Errorf("rewrap key %s: %w", kid, done.Error)
		}
		if done.RowsAffected == 0 {
			return nil
		}
		return record(tx, audit.Event{Type: audit.KeyRewrapped, Object: kid})
	})
}

// Rewrap passes every wrapped data key, with its user, to rewrap and stores the
// result, unless that is nil or the row has changed meanwhile. It returns how many
// results were stored.
func (s *SecondFactors) Rewrap(ctx context.Context,
	rewrap func(user uuid.UUID, wrapped []byte) ([]byte, error)) (n int,
	err error) {
	var after uuid.UUID
	for {
		var rows []secondFactorRow
		err := s.db.Gorm(ctx).Select("user_id", "wrapped_key").Where("user_id > ?",
			after).Order("user_id").Limit(rewrapPageSize).Find(&rows).Error
		if err != nil {
			return n, fmt.Errorf("read second factors: %w", err)
		}
		for _, row := range rows {
			after = row.UserID
			fresh, err := rewrap(row.UserID, row.WrappedKey)
			if err != nil {
				return n, fmt.Errorf("second factor of %s: %w", row.UserID, err)
			}
			if fresh == nil {
				continue
			}
			done := s.db.Gorm(ctx).Model(&secondFactorRow{}).Where("user_id = ? AND wrapped_key = ?", row.UserID,
				row.WrappedKey).Update("wrapped_key", fresh)
			if done.Error != nil {
				return n, fmt.Errorf("rewrap second factor: %w", done.Error)
			}
			n += int(done.RowsAffected)
		}
		if len(rows) < rewrapPageSize {
			return n, nil
		}
	}
}
