package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/defi"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

type balanceRow struct {
	WalletID    uuid.UUID `gorm:"primaryKey"`
	TokenID     string    `gorm:"primaryKey"`
	Amount      string
	BlockNumber int64
	BlockHash   []byte
	BlockTime   time.Time
	Receipt     bool
	Token       tokenRow `gorm:"foreignKey:TokenID"`
}

func (balanceRow) TableName() string { return "balances" }

// Balances implements wallet.Store.
func (s *Wallets) Balances(ctx context.Context, owner, id uuid.UUID, after string, limit int) ([]wallet.Balance,
	error) {
	if _, err := s.ByID(ctx, owner, id); err != nil {
		return nil, err
	}
	var rows []balanceRow
	err := s.db.Gorm(ctx).Joins("Token").
		Where("balances.wallet_id = ? AND balances.token_id > ?", id, after).
		Order("balances.token_id").Limit(limit).Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("list balances: %w", err)
	}
	balances := make([]wallet.Balance, len(rows))
	for i, r := range rows {
		if balances[i], err = balanceFromRow(r); err != nil {
			return nil, err
		}
	}
	return balances, nil
}

// SaveSync implements balancesync.Store.
func (s *Wallets) SaveSync(ctx context.Context, owner, id uuid.UUID, state wallet.Sync) error {
	return s.change(ctx, owner, func(tx *gorm.DB) error { return saveSync(tx, owner, id, state) })
}

// saveSync never replaces synced_block by that of an older block: of two concurrent syncs the one that read the older
// block may finish last. A newer block has a later time; its number is lower when the chain was reset. A sync that no
// other one came between is newer whatever its block's time is: a node for development that goes back to an earlier
// block sets its clock back too. A sync that failed or is under way leaves them as they are: the chain may have been
// forgotten meanwhile.
func saveSync(tx *gorm.DB, owner, id uuid.UUID, state wallet.Sync) error {
	set := map[string]any{
		"sync_state": string(state.State), "sync_error": state.Error, "sync_reason": state.Reason,
		"retry_at": state.RetryAt,
	}
	if state.State == wallet.Synced && state.At != nil {
		last := wallet.Success{}
		if state.Last != nil {
			last = *state.Last
		}
		// What a sync knew of that the row has no more was forgotten.
		const older = `CASE WHEN (synced_at IS NULL AND ?) OR (synced_at > ? OR synced_at = ? AND synced_block > ?)
			AND NOT (synced_block = ? AND synced_at = ?) THEN `
		compared := []any{state.Last != nil, *state.At, *state.At, int64(state.Block), int64(last.Block), last.At}
		set["synced_block"] = gorm.Expr(older+"synced_block ELSE ? END", append(compared, int64(state.Block))...)
		set["synced_at"] = gorm.Expr(older+"synced_at ELSE ? END", append(compared, *state.At)...)
	}
	res := tx.Model(&walletRow{}).Where("id = ? AND owner_id = ?", id, owner).Updates(set)
	if res.Error != nil {
		return fmt.Errorf("save sync state: %w", res.Error)
	}
	if res.RowsAffected == 0 {
		return noWallet(id)
	}
	return nil
}

// SaveBalances implements balancesync.Store: one upsert for all balances.
func (s *Wallets) SaveBalances(ctx context.Context, owner, id uuid.UUID, balances []wallet.Balance,
	state wallet.Sync, positions ...defi.Reading) error {
	return s.change(ctx, owner, func(tx *gorm.DB) error {
		if err := saveSync(tx, owner, id, state); err != nil {
			return err
		}
		rows := make([]walletBalance, len(balances))
		for i, b := range balances {
			rows[i] = walletBalance{id, b}
		}
		var changed []changedWallet
		err := postgres.Raw(tx, func(conn *pgx.Conn) (err error) {
			if changed, err = upsertBalances(ctx, conn, rows); err != nil {
				return err
			}
			changed, err = andPositions(ctx, conn, changed, readingsOf(id, state, positions))
			return err
		})
		if err != nil {
			return err
		}
		return noteBalances(tx, changed, func(uuid.UUID) uuid.UUID { return owner })
	})
}

// walletBalance is a balance of a wallet.
type walletBalance struct {
	wallet uuid.UUID
	wallet.Balance
}

// upsertBalances stores balances, each unless a newer block's is stored, with what changed and the adjustments of
// it, in a number of statements that doesn't grow with them. Of two blocks of one chain the later one has the higher
// number; a lower number and a later time are of a chain that was reset. It returns the wallets whose amounts became
// others, or that had none. The caller has locked the wallets, so that what was stored before is what the statement
// sees.
func upsertBalances(ctx context.Context, conn *pgx.Conn, balances []walletBalance) ([]changedWallet, error) {
	n := len(balances)
	wallets, tokens, amounts := make([]uuid.UUID, n), make([]string, n), make([]string, n)
	blocks, hashes, times := make([]int64, n), make([][]byte, n), make([]time.Time, n)
	for i, b := range balances {
		wallets[i], tokens[i], amounts[i] = b.wallet, b.Token.ID, b.Amount.Dec()
		blocks[i], hashes[i], times[i] = int64(b.Block.Number), b.Block.Hash[:], b.Block.Time
	}
	// A token that was not read for some syncs may have movements after its balance.
	rows, err := conn.Query(ctx, `
		WITH input AS (
		  SELECT wallet, token, amount::numeric, block, hash, at
		  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::bytea[], $6::timestamptz[])
		    AS b (wallet, token, amount, block, hash, at)),
		before AS (
		  SELECT b.wallet_id, b.token_id, b.amount, b.block_number, coalesce(s.scanned_block, 0) AS scanned
		  FROM balances b LEFT JOIN transaction_scans s ON s.wallet_id = b.wallet_id
		  WHERE b.wallet_id = ANY($1::uuid[])),
		stored AS (
		  INSERT INTO balances (wallet_id, token_id, amount, block_number, block_hash, block_time)
		  SELECT * FROM input ORDER BY wallet, token
		  ON CONFLICT (wallet_id, token_id) DO UPDATE
		  SET amount = excluded.amount, block_number = excluded.block_number,
		      block_hash = excluded.block_hash, block_time = excluded.block_time,
		      first_block_number = CASE
		        WHEN balances.block_number >= 0
		         AND coalesce(balances.first_block_number, balances.block_number) <= excluded.block_number
		        THEN coalesce(balances.first_block_number, balances.block_number) END,
		      first_block_time = CASE
		        WHEN balances.block_number >= 0
		         AND coalesce(balances.first_block_number, balances.block_number) <= excluded.block_number
		        THEN coalesce(balances.first_block_time, balances.block_time) END
		  WHERE excluded.block_number >= balances.block_number OR excluded.block_time > balances.block_time
		  RETURNING wallet_id, token_id, amount, block_number),
		compared AS (
		  SELECT s.wallet_id, s.token_id, s.block_number, least(s.block_number, b.block_number) AS since,
		         s.amount <> coalesce(b.amount, 0)
		         OR b.amount IS NULL AND s.wallet_id NOT IN (SELECT wallet_id FROM before) AS changed,
		         s.amount <> coalesce(b.amount, 0) OR coalesce(b.block_number > s.block_number, false)
		         OR coalesce(b.block_number < b.scanned, false)
		         OR b.amount IS NULL AND EXISTS (SELECT FROM transactions t WHERE t.wallet_id = s.wallet_id
		                                         AND t.token_id = s.token_id) AS moved
		  FROM stored s LEFT JOIN before b ON b.wallet_id = s.wallet_id AND b.token_id = s.token_id)
		SELECT wallet_id, token_id, block_number, since, changed, moved FROM compared WHERE changed OR moved
		ORDER BY wallet_id, token_id`,
		wallets, tokens, amounts, blocks, hashes, times)
	if err != nil {
		return nil, fmt.Errorf("store balances: %w", err)
	}
	var moved touched
	var changed []changedWallet
	for rows.Next() {
		var w uuid.UUID
		var id string
		var number, since int64
		var isChanged, isMoved bool
		if err := rows.Scan(&w, &id, &number, &since, &isChanged, &isMoved); err != nil {
			return nil, fmt.Errorf("store balances: %w", err)
		}
		if isMoved {
			moved.add(w, id, since)
		}
		if last := len(changed) - 1; isChanged && (last < 0 || changed[last].ID != w) {
			changed = append(changed, changedWallet{w, number})
		} else if isChanged {
			changed[last].Block = max(changed[last].Block, number)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("store balances: %w", err)
	}
	return changed, saveChanges(ctx, conn, moved)
}

func balanceFromRow(r balanceRow) (wallet.Balance, error) {
	t, err := tokenFromRow(r.Token)
	if err != nil {
		return wallet.Balance{}, err
	}
	a, err := amount(r.Amount)
	if err != nil {
		return wallet.Balance{}, err
	}
	return wallet.Balance{
		Token: t, Amount: a, Imported: r.BlockNumber < 0, Receipt: r.Receipt,
		Block: block.Block{Number: uint64(max(0, r.BlockNumber)), Hash: hash(r.BlockHash), Time: r.BlockTime},
	}, nil
}
