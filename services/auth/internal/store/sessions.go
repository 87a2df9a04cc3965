package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/auth/internal/session"
)

type sessionRow struct {
	ID               uuid.UUID `gorm:"primaryKey"`
	UserID           uuid.UUID
	CreatedAt        time.Time
	ExpiresAt        time.Time
	CurrentHash      []byte
	CurrentExpiresAt time.Time
	PreviousHash     []byte
	RotatedAt        *time.Time
	SealedSuccessor  []byte
	RevokedAt        *time.Time
	RevokeReason     string
}

func (sessionRow) TableName() string { return "sessions" }

type refreshTokenRow struct {
	TokenHash []byte `gorm:"primaryKey"`
	SessionID uuid.UUID
}

func (refreshTokenRow) TableName() string { return "refresh_tokens" }

// Sessions implements session.Store.
type Sessions struct{ db *postgres.DB }

// NewSessions returns the sessions in db.
func NewSessions(db *postgres.DB) *Sessions { return &Sessions{db: db} }

// Credentials implements session.Store.
func (s *Sessions) Credentials(ctx context.Context, email string) (uuid.UUID, string, error) {
	if strings.ContainsRune(email, 0) { // which no text in Postgres can hold
		email = ""
	}
	var row userRow
	err := s.db.Gorm(ctx).Select("id", "password_hash").Where("email = ?", email).Take(&row).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return uuid.Nil, "", nil
	}
	if err != nil {
		return uuid.Nil, "", missing(err, "user")
	}
	return row.ID, row.PasswordHash, nil
}

// Roles implements session.Store.
func (s *Sessions) Roles(ctx context.Context, user uuid.UUID) ([]string, error) {
	return rolesOf(s.db.Gorm(ctx), user)
}

func rolesOf(tx *gorm.DB, user uuid.UUID) ([]string, error) {
	var rows []roleRow
	if err := tx.Where("user_id = ?", user).Order("role").Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("read roles: %w", err)
	}
	return roleNames(rows), nil
}

// Start implements session.Store.
func (s *Sessions) Start(ctx context.Context, f session.Family) error {
	return postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		row := toRow(f)
		if err := tx.Create(&row).Error; err != nil {
			return fmt.Errorf("create session: %w", err)
		}
		return remember(tx, f)
	})
}

// Change implements session.Store.
func (s *Sessions) Change(ctx context.Context, token session.Hash, change func(session.Family, []string) (session.Family, error)) error {
	return postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		var row sessionRow
		err := tx.Clauses(clause.Locking{Strength: clause.LockingStrengthUpdate}).
			Where("id = (SELECT session_id FROM refresh_tokens WHERE token_hash = ?)", token[:]).
			Take(&row).Error
		if errors.Is(err, gorm.ErrRecordNotFound) {
			return errs.NotFound("session")
		}
		if err != nil {
			return fmt.Errorf("lock session: %w", err)
		}
		was := fromRow(row)
		roles, err := rolesOf(tx, was.UserID)
		if err != nil {
			return err
		}
		f, err := change(was, roles)
		if err != nil {
			return err
		}
		row = toRow(f)
		if err := tx.Select("*").Updates(&row).Error; err != nil {
			return fmt.Errorf("save session: %w", err)
		}
		if f.Current != was.Current {
			return remember(tx, f)
		}
		return nil
	})
}

// remember keeps the current token's hash for as long as the family lives.
func remember(tx *gorm.DB, f session.Family) error {
	row := refreshTokenRow{TokenHash: f.Current[:], SessionID: f.ID}
	if err := tx.Create(&row).Error; err != nil {
		return fmt.Errorf("remember refresh token: %w", err)
	}
	return nil
}

// Revoke implements session.Store.
func (s *Sessions) Revoke(ctx context.Context, user, family uuid.UUID, at time.Time, reason string) error {
	err := s.db.Gorm(ctx).Model(&sessionRow{}).
		Where("id = ? AND user_id = ? AND revoked_at IS NULL", family, user).
		Updates(map[string]any{"revoked_at": at, "revoke_reason": reason, "sealed_successor": nil}).Error
	if err != nil {
		return fmt.Errorf("revoke session: %w", err)
	}
	return nil
}

func toRow(f session.Family) sessionRow {
	row := sessionRow{
		ID: f.ID, UserID: f.UserID, CreatedAt: f.CreatedAt, ExpiresAt: f.ExpiresAt,
		CurrentHash: f.Current[:], CurrentExpiresAt: f.CurrentExpiresAt,
		SealedSuccessor: f.SealedSuccessor, RevokedAt: f.RevokedAt, RevokeReason: f.RevokeReason,
	}
	if f.Previous != nil {
		row.PreviousHash, row.RotatedAt = f.Previous[:], &f.RotatedAt
	}
	return row
}

func fromRow(r sessionRow) session.Family {
	f := session.Family{
		ID: r.ID, UserID: r.UserID, CreatedAt: r.CreatedAt, ExpiresAt: r.ExpiresAt,
		Current: session.Hash(r.CurrentHash), CurrentExpiresAt: r.CurrentExpiresAt,
		SealedSuccessor: r.SealedSuccessor, RevokedAt: r.RevokedAt, RevokeReason: r.RevokeReason,
	}
	if r.PreviousHash != nil && r.RotatedAt != nil {
		h := session.Hash(r.PreviousHash)
		f.Previous, f.RotatedAt = &h, *r.RotatedAt
	}
	return f
}
