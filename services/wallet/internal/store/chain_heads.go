package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"

	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/caip"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

// ClaimHead implements newblocks.Store. The database's clock is the one that counts.
func (s *Wallets) ClaimHead(ctx context.Context, chain uint64, replica uuid.UUID, lease time.Duration) (
	last block.Block, ok bool, err error) {
	var rows []struct {
		BlockNumber int64
		BlockHash   []byte
	}
	err = s.db.Gorm(ctx).Raw(`
		INSERT INTO chain_heads AS h (chain, replica, lease_until)
		VALUES (?, ?, clock_timestamp() + ? * interval '1 second')
		ON CONFLICT (chain) DO UPDATE SET replica = excluded.replica, lease_until = excluded.lease_until
		WHERE h.replica = excluded.replica OR h.lease_until < clock_timestamp()
		RETURNING block_number, block_hash`, int64(chain), replica, lease.Seconds()).Scan(&rows).Error
	if err != nil {
		return block.Block{}, false, fmt.Errorf("claim the newest blocks of a chain: %w", err)
	}
	if len(rows) == 0 {
		return block.Block{}, false, nil
	}
	return block.Block{Number: uint64(max(0, rows[0].BlockNumber)), Hash: hash(rows[0].BlockHash)}, true, nil
}

// SaveHead implements newblocks.Store.
func (s *Wallets) SaveHead(ctx context.Context, chain uint64, replica uuid.UUID, last block.Block) error {
	err := s.db.Gorm(ctx).Exec(`UPDATE chain_heads SET block_number = ?, block_hash = ?
		WHERE chain = ? AND replica = ?`, int64(last.Number), last.Hash[:], int64(chain), replica).Error
	if err != nil {
		return fmt.Errorf("store the newest block of a chain: %w", err)
	}
	return nil
}

// At implements newblocks.Store.
func (s *Wallets) At(ctx context.Context, chain uint64, accounts []common.Address, limit int) ([]wallet.Wallet,
	error) {
	texts := make([]string, len(accounts))
	for i, a := range accounts {
		texts[i] = caip.ChainID(chain) + ":" + strings.ToLower(a.Hex())
	}
	var found []wallet.Wallet
	for some := range slices.Chunk(texts, 10_000) { // a statement has less than 65,536 parameters
		wallets, err := s.rows(ctx, `SELECT * FROM wallets WHERE archived_at IS NULL AND account IN ?
			ORDER BY id LIMIT ?`, some, limit-len(found))
		if err != nil {
			return nil, fmt.Errorf("read wallets by their accounts: %w", err)
		}
		found = append(found, wallets...)
	}
	return found, nil
}
