package store

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/internal/feed"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

// maxErasedRows is how many rows of a table one transaction erases, and maxErasedWallets of how many wallets.
const (
	maxErasedRows    = 5000
	maxErasedWallets = 100
)

// Owners implements erasure.Data: what there is of users.
type Owners struct {
	db     *postgres.DB
	caches *Caches
}

// NewOwners returns the data of users in db.
func NewOwners(db *postgres.DB, c *Caches) *Owners { return &Owners{db: db, caches: c} }

// Owners implements erasure.Data.
func (s *Owners) Owners(ctx context.Context, after uuid.UUID, limit int) (ids []uuid.UUID, err error) {
	err = s.db.Gorm(ctx).Raw(`
		(SELECT DISTINCT owner_id FROM wallets WHERE owner_id > @after ORDER BY owner_id LIMIT @limit)
		UNION
		(SELECT DISTINCT owner_id FROM requests WHERE owner_id > @after ORDER BY owner_id LIMIT @limit)
		UNION
		(SELECT DISTINCT owner_id FROM changes WHERE owner_id > @after AND kind <> @erased
			ORDER BY owner_id LIMIT @limit)
		ORDER BY owner_id LIMIT @limit`, map[string]any{"after": after, "limit": limit,
		"erased": wallet.OwnerErased}).Scan(&ids).Error
	if err != nil {
		return nil, fmt.Errorf("read owners: %w", err)
	}
	return ids, nil
}

// EraseSome implements erasure.Data. Wallets are locked in the order of their ids, as wherever several are, and
// deleted last, with what was stored in the meantime: whatever stores something of a wallet holds a lock on it. Of the
// owner's changes one stays, which says so.
func (s *Owners) EraseSome(tx *gorm.DB, owner uuid.UUID) (stale []cache.Invalidation, more bool, err error) {
	stale = []cache.Invalidation{{Cache: s.caches.generations, Keys: []string{owner.String()}}}
	var ids []uuid.UUID
	err = tx.Raw("SELECT id FROM wallets WHERE owner_id = ? ORDER BY id LIMIT ? FOR UPDATE", owner, maxErasedWallets).
		Scan(&ids).Error
	if err != nil {
		return nil, false, fmt.Errorf("lock wallets: %w", err)
	}
	if len(ids) == 0 {
		done := tx.Exec(`DELETE FROM requests WHERE (owner_id, request_id) IN (
			SELECT owner_id, request_id FROM requests WHERE owner_id = ? LIMIT ?)`, owner, maxErasedRows)
		if done.Error != nil {
			return nil, false, fmt.Errorf("erase requests: %w", done.Error)
		}
		if done.RowsAffected > 0 {
			return stale, true, nil
		}
		more, err = feed.Erase(tx, owner, wallet.OwnerErased, maxErasedRows)
		return stale, more, err
	}
	for _, statement := range []string{
		`DELETE FROM balance_history WHERE (wallet_id, hour, token_id) IN (
			SELECT wallet_id, hour, token_id FROM balance_history WHERE wallet_id IN ? LIMIT ?)`,
		`DELETE FROM position_history WHERE (wallet_id, hour) IN (
			SELECT wallet_id, hour FROM position_history WHERE wallet_id IN ? LIMIT ?)`,
		`DELETE FROM wallet_history WHERE (wallet_id, hour) IN (
			SELECT wallet_id, hour FROM wallet_history WHERE wallet_id IN ? LIMIT ?)`,
		`DELETE FROM balances WHERE (wallet_id, token_id) IN (
			SELECT wallet_id, token_id FROM balances WHERE wallet_id IN ? LIMIT ?)`,
		`DELETE FROM positions WHERE (wallet_id, market, kind, rate_mode, asset) IN (
			SELECT wallet_id, market, kind, rate_mode, asset FROM positions WHERE wallet_id IN ? LIMIT ?)`,
		`DELETE FROM balance_changes WHERE (wallet_id, token_id, block_number) IN (
			SELECT wallet_id, token_id, block_number FROM balance_changes WHERE wallet_id IN ? LIMIT ?)`,
		`DELETE FROM transactions WHERE (wallet_id, block_number, transaction_index, log_index, token_id) IN (
			SELECT wallet_id, block_number, transaction_index, log_index, token_id FROM transactions
			WHERE wallet_id IN ? LIMIT ?)`,
	} {
		done := tx.Exec(statement, ids, maxErasedRows)
		if done.Error != nil {
			return nil, false, fmt.Errorf("erase balances: %w", done.Error)
		}
		if done.RowsAffected == maxErasedRows {
			return stale, true, nil
		}
	}
	if err := tx.Exec("DELETE FROM wallets WHERE id IN ?", ids).Error; err != nil {
		return nil, false, fmt.Errorf("erase wallets: %w", err)
	}
	return stale, true, nil
}
