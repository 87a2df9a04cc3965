package store

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/apikey"
	"github.com/purserhq/purser/services/auth/internal/audit"
)

type apiKeyRow struct {
	ID         uuid.UUID `gorm:"primaryKey"`
	UserID     uuid.UUID
	Name       string
	Hash       []byte
	Scopes     []string       `gorm:"serializer:json"`
	Allowed    []netip.Prefix `gorm:"column:allowed_cidrs;serializer:json"`
	CreatedAt  time.Time
	ExpiresAt  time.Time
	LastUsedAt *time.Time
	RevokedAt  *time.Time
}

func (apiKeyRow) TableName() string { return "api_keys" }

func (r apiKeyRow) key() apikey.Key {
	return apikey.Key{
		ID: r.ID, UserID: r.UserID, Name: r.Name, Hash: apikey.Hash(r.Hash), Scopes: r.Scopes, Allowed: r.Allowed,
		CreatedAt: r.CreatedAt, ExpiresAt: r.ExpiresAt, LastUsedAt: r.LastUsedAt, RevokedAt: r.RevokedAt,
	}
}

// APIKeys implements apikey.Store.
type APIKeys struct{ db *postgres.DB }

// NewAPIKeys returns the API keys in db.
func NewAPIKeys(db *postgres.DB) *APIKeys { return &APIKeys{db: db} }

// Create implements apikey.Store.
func (s *APIKeys) Create(ctx context.Context, k apikey.Key, e audit.Event, check apikey.Check) error {
	return inTx(ctx, s.db, func(tx *gorm.DB) error {
		held, err := lockCaller(tx, targets{user: k.UserID})
		if err != nil {
			return err
		}
		var usable int64
		err = tx.Model(&apiKeyRow{}).Where("user_id = ? AND revoked_at IS NULL AND expires_at > ?", k.UserID,
			k.CreatedAt).Count(&usable).Error
		if err != nil {
			return fmt.Errorf("count API keys: %w", err)
		}
		if err := check(int(usable), held); err != nil {
			return err
		}
		row := apiKeyRow{
			ID: k.ID, UserID: k.UserID, Name: k.Name, Hash: k.Hash[:], Scopes: k.Scopes, Allowed: k.Allowed,
			CreatedAt: k.CreatedAt, ExpiresAt: k.ExpiresAt,
		}
		if err := tx.Create(&row).Error; err != nil {
			return fmt.Errorf("create API key: %w", err)
		}
		return record(tx, e)
	})
}

// List implements apikey.Store. Ids are UUIDv7, so their order is that of creation.
func (s *APIKeys) List(ctx context.Context, user uuid.UUID) ([]apikey.Key, error) {
	var rows []apiKeyRow
	if err := s.db.Gorm(ctx).Where("user_id = ?", user).Order("id DESC").Limit(1000).Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("list API keys: %w", err)
	}
	keys := make([]apikey.Key, len(rows))
	for i, row := range rows {
		keys[i] = row.key()
	}
	return keys, nil
}

// Revoke implements apikey.Store.
func (s *APIKeys) Revoke(ctx context.Context, user, id uuid.UUID, at time.Time, e audit.Event) error {
	return postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		if _, err := lockCaller(tx, targets{user: user}); err != nil {
			return err
		}
		var row apiKeyRow
		if err := tx.Select("id").Where("id = ? AND user_id = ?", id, user).Take(&row).Error; err != nil {
			return missing(err, "API key")
		}
		done := tx.Model(&apiKeyRow{}).Where("id = ? AND revoked_at IS NULL", id).Update("revoked_at", at)
		if done.Error != nil {
			return fmt.Errorf("revoke API key: %w", done.Error)
		}
		if done.RowsAffected == 0 {
			return nil
		}
		if err := announce(tx, revokedSession, id); err != nil { // the session that its tokens name
			return err
		}
		return record(tx, e)
	})
}

// ByHash implements apikey.Store.
func (s *APIKeys) ByHash(ctx context.Context, h apikey.Hash) (apikey.Key, account.AccessState, error) {
	var row apiKeyRow
	if err := s.db.Gorm(ctx).Where("hash = ?", h[:]).Take(&row).Error; err != nil {
		return apikey.Key{}, account.AccessState{}, missing(err, "API key")
	}
	is, err := accessState(s.db.Gorm(ctx), row.UserID)
	return row.key(), is, err
}

// revokeAPIKeys revokes keys of a user, and their tokens, and returns how many it revoked.
func revokeAPIKeys(tx *gorm.DB, user uuid.UUID, ids []uuid.UUID) (int, error) {
	var revoked []uuid.UUID
	err := tx.Raw(`UPDATE api_keys SET revoked_at = clock_timestamp()
		WHERE user_id = ? AND id IN ? AND revoked_at IS NULL RETURNING id`, user, ids).Scan(&revoked).Error
	if err != nil {
		return 0, fmt.Errorf("revoke API keys: %w", err)
	}
	if len(revoked) == 0 {
		return 0, nil
	}
	return len(revoked), announce(tx, revokedSession, revoked...) // the sessions that their tokens name
}

// RecordUse implements apikey.Store.
func (s *APIKeys) RecordUse(ctx context.Context, id uuid.UUID, at time.Time) error {
	if err := s.db.Gorm(ctx).Model(&apiKeyRow{}).Where("id = ?", id).Update("last_used_at", at).Error; err != nil {
		return fmt.Errorf("record the use of an API key: %w", err)
	}
	return nil
}
