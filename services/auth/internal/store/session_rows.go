package store

import (
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/session"
)

type sessionRow struct {
	ID               uuid.UUID `gorm:"primaryKey"`
	UserID           uuid.UUID
	CreatedAt        time.Time
	ExpiresAt        time.Time
	CurrentHash      []byte
	CurrentExpiresAt time.Time
	RevokedAt        *time.Time
	RevokeReason     string
	LastUsedAt       time.Time
	UserAgent        string
	IPAddress        string
	Methods          []string `gorm:"serializer:json"`
	AuthTime         time.Time
	DeviceID         *uuid.UUID
}

func (sessionRow) TableName() string { return "sessions" }

// refreshTokenRow is a token that was ever issued. It has UsedAt and SealedSuccessor while its successor can be
// recovered.
type refreshTokenRow struct {
	TokenHash       []byte `gorm:"primaryKey"`
	SessionID       uuid.UUID
	UsedAt          *time.Time
	SealedSuccessor []byte
}

func (refreshTokenRow) TableName() string { return "refresh_tokens" }

func toRow(f session.Family) sessionRow {
	return sessionRow{
		ID: f.ID, UserID: f.UserID, CreatedAt: f.CreatedAt, ExpiresAt: f.ExpiresAt,
		CurrentHash: f.Current[:], CurrentExpiresAt: f.CurrentExpiresAt,
		RevokedAt: f.RevokedAt, RevokeReason: f.RevokeReason,
		LastUsedAt: f.LastUsedAt, UserAgent: f.Client.UserAgent, IPAddress: f.Client.IPAddress,
		Methods: f.Methods, AuthTime: f.AuthTime, DeviceID: orNil(f.DeviceID),
	}
}

func fromRow(r sessionRow) session.Family {
	f := session.Family{
		ID: r.ID, UserID: r.UserID, CreatedAt: r.CreatedAt, ExpiresAt: r.ExpiresAt,
		Current: session.Hash(r.CurrentHash), CurrentExpiresAt: r.CurrentExpiresAt,
		RevokedAt: r.RevokedAt, RevokeReason: r.RevokeReason,
		LastUsedAt: r.LastUsedAt, Client: audit.Client{UserAgent: r.UserAgent, IPAddress: r.IPAddress},
		Methods: r.Methods, AuthTime: r.AuthTime,
	}
	if r.DeviceID != nil {
		f.DeviceID = *r.DeviceID
	}
	return f
}
