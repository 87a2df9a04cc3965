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
}

func (keyRow) TableName() string { return "signing_keys" }

// Keys implements signing.Store.
type Keys struct{ db *postgres.DB }

// NewKeys returns the signing keys in db.
func NewKeys(db *postgres.DB) *Keys { return &Keys{db: db} }

// Bootstrap implements signing.Store. The ring's row is locked before its
// epoch is looked at, so of two replicas that start together one does it.
func (s *Keys) Bootstrap(ctx context.Context, issuer string, first []signing.Key) error {
	return postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		if err := tx.Exec("INSERT INTO key_ring (issuer, epoch) VALUES (?, 0) ON CONFLICT DO NOTHING", issuer).Error; err != nil {
			return fmt.Errorf("create key ring: %w", err)
		}
		var ring struct {
			Epoch int64
			Now   time.Time
		}
		if err := tx.Raw("SELECT epoch, clock_timestamp() AS now FROM key_ring WHERE issuer = ? FOR UPDATE", issuer).Scan(&ring).Error; err != nil {
			return fmt.Errorf("lock key ring: %w", err)
		}
		if ring.Epoch != 0 {
			return nil
		}
		for _, k := range first {
			row := keyRow{
				KID: k.KID, Issuer: issuer, Algorithm: k.Algorithm, State: string(k.State), PublicKey: k.Public,
				SealedPrivate: k.Sealed, WrappedKey: k.Wrapped, CreatedAt: ring.Now, PublishedAt: &ring.Now,
			}
			if k.State == signing.Active {
				row.ActivatedAt = &ring.Now
			}
			if err := tx.Create(&row).Error; err != nil {
				return fmt.Errorf("create key: %w", err)
			}
		}
		if err := tx.Exec("UPDATE key_ring SET epoch = 1 WHERE issuer = ? AND epoch = 0", issuer).Error; err != nil {
			return fmt.Errorf("raise epoch: %w", err)
		}
		return nil
	})
}

// Load implements signing.Store, in one statement: the epoch and the keys are
// of one moment.
func (s *Keys) Load(ctx context.Context, issuer string) (int64, []signing.Key, error) {
	var rows []struct {
		Epoch int64
		Key   keyRow `gorm:"embedded"`
	}
	err := s.db.Gorm(ctx).Raw(`
		SELECT r.epoch, k.*
		FROM key_ring r JOIN signing_keys k ON k.issuer = r.issuer
		WHERE r.issuer = ? AND k.state IN ('PUBLISHED', 'ACTIVE', 'RETIRING')
		ORDER BY k.kid`, issuer).Scan(&rows).Error
	if err != nil && !errors.Is(err, gorm.ErrRecordNotFound) {
		return 0, nil, fmt.Errorf("read key ring: %w", err)
	}
	var epoch int64
	keys := make([]signing.Key, 0, len(rows))
	for _, row := range rows {
		epoch = row.Epoch
		r := row.Key
		k := signing.Key{
			KID: r.KID, Algorithm: r.Algorithm, State: signing.State(r.State), Public: r.PublicKey,
			Sealed: r.SealedPrivate, Wrapped: r.WrappedKey,
		}
		if r.PublishedAt != nil {
			k.PublishedAt = *r.PublishedAt
		}
		if r.ActivatedAt != nil {
			k.ActivatedAt = *r.ActivatedAt
		}
		keys = append(keys, k)
	}
	return epoch, keys, nil
}
