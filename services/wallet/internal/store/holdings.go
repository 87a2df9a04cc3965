package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/services/wallet/internal/holding"
)

type holdingRow struct {
	Wallet      walletRow `gorm:"embedded"`
	TokenID     *string
	Amount      *string
	BlockNumber *int64
	BlockHash   []byte
	BlockTime   *time.Time
	Symbol      *string
	Name        *string
	Decimals    *int16
	Verified    *bool
	WithoutCode *bool
}

// Holdings implements holding.Store with one statement.
func (s *Wallets) Holdings(ctx context.Context, owner uuid.UUID, after holding.Cursor, limit int) ([]holding.Row,
	error) {
	var rows []holdingRow
	err := s.db.Gorm(ctx).Raw(`
		SELECT w.id, w.owner_id, w.account, w.label, w.version, w.created_at, w.updated_at,
		       w.sync_state, w.synced_block, w.synced_at, w.sync_error, w.sync_reason, w.retry_at,
		       b.token_id, b.amount::text AS amount, b.block_number, b.block_hash, b.block_time,
		       t.symbol, t.name, t.decimals, t.verified, t.without_code
		FROM wallets w
		LEFT JOIN balances b ON b.wallet_id = w.id AND b.amount > 0
		LEFT JOIN tokens t ON t.id = b.token_id
		WHERE w.owner_id = ? AND w.archived_at IS NULL AND (w.id, coalesce(b.token_id, '')) > (?, ?)
		ORDER BY w.id, coalesce(b.token_id, '')
		LIMIT ?`, owner, after.Wallet, after.Token, limit).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read holdings: %w", err)
	}
	return holdingsFromRows(rows)
}

// ShardHoldings implements holding.Store. The condition on the shard is a CASE, as in Due, and the balances of one
// wallet after the other are read, so that the wallets are read by the index wallets_owner and no further than needed.
func (s *Wallets) ShardHoldings(ctx context.Context, shard, shards int, after holding.ShardCursor,
	limit int) ([]holding.Row, error) {
	var rows []holdingRow
	err := s.db.Gorm(ctx).Raw(`
		SELECT w.id, w.owner_id, w.account, w.label, w.version, w.created_at, w.updated_at,
		       w.sync_state, w.synced_block, w.synced_at, w.sync_error, w.sync_reason, w.retry_at,
		       b.token_id, b.amount::text AS amount, b.block_number, b.block_hash, b.block_time,
		       b.symbol, b.name, b.decimals, b.verified, b.without_code
		FROM wallets w
		LEFT JOIN LATERAL (
			SELECT * FROM balances
			JOIN (SELECT id AS token, symbol, name, decimals, verified, without_code FROM tokens) t ON token = token_id
			WHERE wallet_id = w.id AND amount > 0 AND (w.id <> @wallet OR token_id > @token)
			ORDER BY token_id LIMIT @limit) b ON true
		WHERE (w.owner_id, w.id) >= (@owner, @wallet)
		  AND w.archived_at IS NULL
		  AND CASE get_byte(uuid_send(w.owner_id), 15) % @shards WHEN @shard THEN true ELSE false END
		  AND (w.owner_id, w.id, coalesce(b.token_id, '')) > (@owner, @wallet, @token)
		ORDER BY w.owner_id, w.id, coalesce(b.token_id, '')
		LIMIT @limit`, map[string]any{"owner": after.Owner, "wallet": after.Wallet, "token": after.Token,
		"shard": shard, "shards": shards, "limit": limit}).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read holdings of a shard: %w", err)
	}
	return holdingsFromRows(rows)
}

func holdingsFromRows(rows []holdingRow) (out []holding.Row, err error) {
	out = make([]holding.Row, len(rows))
	for i, r := range rows {
		if out[i], err = holdingFromRow(r); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func holdingFromRow(r holdingRow) (holding.Row, error) {
	w, err := fromRow(r.Wallet)
	if err != nil || r.TokenID == nil {
		return holding.Row{Wallet: w}, err
	}
	b, err := balanceFromRow(balanceRow{
		TokenID: *r.TokenID, Amount: *r.Amount, BlockNumber: *r.BlockNumber,
		BlockHash: r.BlockHash, BlockTime: *r.BlockTime,
		Token: tokenRow{ID: *r.TokenID, Symbol: *r.Symbol, Name: *r.Name, Decimals: *r.Decimals,
			Verified: *r.Verified, WithoutCode: *r.WithoutCode},
	})
	return holding.Row{Wallet: w, Balance: &b}, err
}
