package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/services/internal/answers"
	"github.com/purserhq/purser/services/internal/requests"
	"github.com/purserhq/purser/services/wallet/internal/ownership"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

// PutChallenge implements ownership.Store.
func (s *Wallets) PutChallenge(ctx context.Context, owner, id uuid.UUID, c ownership.Challenge) error {
	done := s.db.Gorm(ctx).Exec(`
		INSERT INTO ownership_challenges (wallet_id, message, expires_at)
		SELECT id, ?, ? FROM wallets WHERE id = ? AND owner_id = ?
		ON CONFLICT (wallet_id) DO UPDATE SET message = excluded.message, expires_at = excluded.expires_at`,
		c.Message, c.Expires, id, owner)
	if done.Error != nil {
		return fmt.Errorf("store challenge: %w", done.Error)
	}
	if done.RowsAffected == 0 {
		return noWallet(id)
	}
	return nil
}

// Challenge implements ownership.Store.
func (s *Wallets) Challenge(ctx context.Context, owner, id uuid.UUID) (ownership.Challenge, error) {
	var row struct {
		Message   string
		ExpiresAt time.Time
	}
	if _, err := s.ByID(ctx, owner, id); err != nil {
		return ownership.Challenge{}, err
	}
	err := s.db.Gorm(ctx).Raw("SELECT message, expires_at FROM ownership_challenges WHERE wallet_id = ?", id).
		Scan(&row).Error
	if err != nil {
		return ownership.Challenge{}, fmt.Errorf("read challenge: %w", err)
	}
	return ownership.Challenge{Message: row.Message, Expires: row.ExpiresAt}, nil
}

// dropChallenge removes the challenge of a wallet if it has this message.
const dropChallenge = `
	DELETE FROM ownership_challenges c USING wallets w
	WHERE c.wallet_id = ? AND c.message = ? AND w.id = c.wallet_id AND w.owner_id = ?`

// DropChallenge implements ownership.Store.
func (s *Wallets) DropChallenge(ctx context.Context, owner, id uuid.UUID, message string) error {
	if err := s.db.Gorm(ctx).Exec(dropChallenge, id, message, owner).Error; err != nil {
		return fmt.Errorf("drop challenge: %w", err)
	}
	return nil
}

// Prove implements ownership.Store.
func (s *Wallets) Prove(ctx context.Context, owner, id uuid.UUID, message string, p wallet.Proof,
	r *requests.Request) (wallet.Wallet, error) {
	var row walletRow
	err := once(ctx, s, owner, r, &row, func(tx *gorm.DB) error {
		var err error
		if row, err = locked(tx, owner, id); err != nil {
			return err
		}
		done := tx.Exec(dropChallenge, id, message, owner)
		if done.Error != nil {
			return fmt.Errorf("use challenge: %w", done.Error)
		}
		if done.RowsAffected == 0 {
			return ownership.ErrNoChallenge
		}
		return update(tx, &row, func(w *wallet.Wallet) error {
			w.Proof, w.UpdatedAt = &p, p.At
			return nil
		})
	})
	if err != nil {
		return wallet.Wallet{}, err
	}
	return fromRow(row)
}

// ProveByIdentity implements ownership.Store.
func (s *Wallets) ProveByIdentity(ctx context.Context, owner, id uuid.UUID, p wallet.Proof) (wallet.Wallet, error) {
	var row walletRow
	err := s.change(ctx, owner, func(tx *gorm.DB) error {
		var err error
		if row, err = locked(tx, owner, id); err != nil {
			return err
		}
		if row.ProvenAt != nil {
			return nil
		}
		return update(tx, &row, func(w *wallet.Wallet) error {
			w.Proof, w.UpdatedAt = &p, p.At
			return nil
		})
	})
	if err != nil {
		return wallet.Wallet{}, err
	}
	return fromRow(row)
}

// Answered implements ownership.Store.
func (s *Wallets) Answered(ctx context.Context, owner uuid.UUID, r *requests.Request) (wallet.Wallet, bool, error) {
	var row walletRow
	answered, err := answers.Earlier(s.db.Gorm(ctx), owner, *r, &row)
	if err != nil || !answered {
		return wallet.Wallet{}, false, err
	}
	w, err := fromRow(row)
	return w, true, err
}
