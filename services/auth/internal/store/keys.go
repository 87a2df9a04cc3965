package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/auth/internal/signing"
)

type keyRow struct {
	KID           string `gorm:"column:kid;primaryKey"`
	Issuer        string
	Algorithm     string
	State         string
	PublicKey     []byte
	SealedPrivate []byte
	WrappedKey    []byte
	CreatedAt     time.Time
	PublishedAt   *time.Time
	ActivatedAt   *time.Time
	RetiringAt    *time.Time
	PromotedEarly bool
}

func (keyRow) TableName() string { return "signing_keys" }

// Keys implements signing.Store.
type Keys struct{ db *postgres.DB }

// NewKeys returns the signing keys in db.
func NewKeys(db *postgres.DB) *Keys { return &Keys{db: db} }

// Bootstrap implements signing.Store. The ring's row is locked before its epoch is
// read, so of replicas that start at the same time only one creates keys.
func (s *Keys) Bootstrap(ctx context.Context, issuer string, keys []signing.Key) error {
	if err := s.db.Gorm(ctx).Exec("INSERT INTO key_ring (issuer, epoch) VALUES (?, 0) ON CONFLICT DO NOTHING",
		issuer).Error; err != nil {
		return fmt.Errorf("create key ring: %w", err)
	}
	err := s.updateRing(ctx, issuer, func(tx *gorm.DB, epoch int64, now time.Time) error {
		if epoch != 0 {
			return signing.ErrEpochChanged // another replica was faster
		}
		for _, k := range keys {
			if err := createKey(tx, issuer, k, now); err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, signing.ErrEpochChanged) {
		return nil
	}
	return err
}

// Load implements signing.Store. It is one statement, so that the epoch, the keys
// and the clock are consistent.
func (s *Keys) Load(ctx context.Context, issuer string) (signing.Reading, error) {
	var rows []struct {
		Epoch int64
		Now   time.Time
		Key   keyRow `gorm:"embedded"` // without a kid when the ring has no such keys
	}
	err := s.db.Gorm(ctx).Raw(`
		SELECT r.epoch, clock_timestamp() AS now, k.*
		FROM key_ring r
		LEFT JOIN signing_keys k ON k.issuer = r.issuer AND k.state IN ('STANDBY', 'ACTIVE', 'RETIRING')
		WHERE r.issuer = ?
		ORDER BY k.kid`, issuer).Scan(&rows).Error
	if err != nil {
		return signing.Reading{}, fmt.Errorf("read key ring: %w", err)
	}
	var reading signing.Reading
	for _, row := range rows {
		reading.Epoch, reading.Now = row.Epoch, row.Now
		if row.Key.KID != "" {
			reading.Keys = append(reading.Keys, row.Key.key())
		}
	}
	return reading, nil
}

// List implements signing.RotationStore. It returns up to 1,000 keys.
func (s *Keys) List(ctx context.Context, issuer string) ([]signing.Key, error) {
	var rows []keyRow
	err := s.db.Gorm(ctx).Where("issuer = ?", issuer).Order("created_at DESC, kid").Limit(1000).Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("list signing keys: %w", err)
	}
	keys := make([]signing.Key, len(rows))
	for i, row := range rows {
		keys[i] = row.key()
	}
	return keys, nil
}

func (r keyRow) key() signing.Key {
	at := func(t *time.Time) time.Time {
		if t == nil {
			return time.Time{}
		}
		return *t
	}
	return signing.Key{
		KID: r.KID, Algorithm: r.Algorithm, State: signing.State(r.State), Public: r.PublicKey,
		Sealed: r.SealedPrivate, Wrapped: r.WrappedKey,
		PublishedAt: at(r.PublishedAt), ActivatedAt: at(r.ActivatedAt), RetiringAt: at(r.RetiringAt),
		PromotedEarly: r.PromotedEarly,
	}
}
