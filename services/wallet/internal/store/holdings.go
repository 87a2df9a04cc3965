package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/holiman/uint256"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/defi"
	"github.com/purserhq/purser/services/wallet/internal/holding"
	"github.com/purserhq/purser/services/wallet/internal/token"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
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
	Receipt     *bool
	Markets     *string
}

// Holdings implements holding.Store: the wallets and their balances of one snapshot, and the tokens, which are cached.
func (s *Wallets) Holdings(ctx context.Context, owner uuid.UUID, after holding.Cursor, limit int) ([]holding.Row,
	error) {
	var wallets []wallet.Wallet
	var held []heldBalance
	var positions map[uuid.UUID][]defi.Reading
	err := postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		return postgres.Raw(tx, func(conn *pgx.Conn) (err error) {
			if wallets, positions, err = heldWallets(ctx, conn, owner, after.Wallet, limit); err == nil {
				held, err = heldBalances(ctx, conn, wallets, after, limit)
			}
			return err
		})
	}, postgres.RepeatableRead, postgres.ReadOnly)
	if err != nil {
		return nil, fmt.Errorf("read holdings: %w", err)
	}
	seen := map[string]bool{}
	var ids []string
	need := func(id string) {
		if !seen[id] {
			seen[id] = true
			ids = append(ids, id)
		}
	}
	for _, h := range held {
		need(h.token)
	}
	for _, p := range positions {
		for id := range defi.Assets(p) {
			need(id)
		}
	}
	tokens := map[string]token.Token{}
	if len(ids) > 0 {
		if tokens, err = (&Tokens{db: s.db, caches: s.caches}).byIDs(ctx, ids); err != nil {
			return nil, err
		}
	}
	rows, err := holdingRows(wallets, held, tokens, after, limit)
	for i := range rows {
		if w := rows[i].Wallet; i == 0 || w != rows[i-1].Wallet {
			rows[i].Positions, rows[i].Assets = positions[w.ID], holding.KnownAssets(positions[w.ID], tokens)
		}
	}
	return rows, err
}

// heldBalance is a balance above zero. It has no hash of its block.
type heldBalance struct {
	wallet [16]byte
	token  string
	amount uint256.Int
	number int64
	at     time.Time

	receipt bool
}

// heldWallets returns the owner's wallets by id, from one on: limit after that one. It also returns their positions,
// without those of the first one if that is from.
func heldWallets(ctx context.Context, conn *pgx.Conn, owner, from uuid.UUID, limit int) (wallets []wallet.Wallet,
	positions map[uuid.UUID][]defi.Reading, err error) {
	rows, err := conn.Query(ctx, `
		SELECT id, account, sync_state, synced_block, synced_at, sync_error, sync_reason, retry_at,
		       CASE WHEN id <> $2 THEN `+marketsJSON+` END FROM wallets w
		WHERE owner_id = $1 AND archived_at IS NULL AND id >= $2 ORDER BY id LIMIT $3`,
		[16]byte(owner), [16]byte(from), limit+1)
	if err != nil {
		return nil, nil, err
	}
	positions = map[uuid.UUID][]defi.Reading{}
	var markets *string
	var id [16]byte
	var r walletRow
	_, err = pgx.ForEachRow(rows, []any{&id, &r.Account, &r.SyncState, &r.SyncedBlock, &r.SyncedAt, &r.SyncError,
		&r.SyncReason, &r.RetryAt, &markets}, func() error {
		r.ID, r.OwnerID = id, owner
		w, err := fromRow(r)
		wallets = append(wallets, w)
		if err == nil && markets != nil {
			positions[w.ID], err = readingsFrom(markets)
		}
		return err
	})
	return wallets, positions, err
}

// heldBalances returns up to limit balances of the wallets after the cursor, by wallet and token.
func heldBalances(ctx context.Context, conn *pgx.Conn, wallets []wallet.Wallet, after holding.Cursor,
	limit int) ([]heldBalance, error) {
	ids := make([][16]byte, len(wallets))
	for i, w := range wallets {
		ids[i] = w.ID
	}
	rows, err := conn.Query(ctx, `
		SELECT wallet_id, token_id, amount::text, block_number, block_time, receipt FROM balances
		WHERE wallet_id = ANY($1::uuid[]) AND amount > 0 AND (wallet_id, token_id) > ($2, $3)
		ORDER BY wallet_id, token_id LIMIT $4`, ids, [16]byte(after.Wallet), after.Token, limit)
	if err != nil {
		return nil, err
	}
	held := make([]heldBalance, 0, min(limit, 32*len(wallets)))
	known := map[string]string{} // ids, which are the same few in many rows
	var h heldBalance
	var id, digits pgtype.DriverBytes
	_, err = pgx.ForEachRow(rows, []any{&h.wallet, &id, &digits, &h.number, &h.at, &h.receipt}, func() (err error) {
		var ok bool
		if h.token, ok = known[string(id)]; !ok {
			h.token = string(id)
			known[h.token] = h.token
		}
		if h.amount, err = amount(string(digits)); err == nil {
			held = append(held, h)
		}
		return err
	})
	return held, err
}

// holdingRows returns up to limit rows. A wallet without balances is a row of its own, unless the cursor is at it.
func holdingRows(wallets []wallet.Wallet, held []heldBalance, tokens map[string]token.Token, after holding.Cursor,
	limit int) ([]holding.Row, error) {
	rows := make([]holding.Row, 0, min(limit, len(wallets)+len(held)))
	balances := make([]wallet.Balance, len(held))
	for i := range wallets {
		w := &wallets[i]
		begun := len(rows)
		for len(held) > 0 && held[0].wallet == w.ID {
			h, b := &held[0], &balances[0]
			held, balances = held[1:], balances[1:]
			var known bool
			if b.Token, known = tokens[h.token]; !known {
				return nil, fmt.Errorf("token %q of a balance is unknown", h.token)
			}
			b.Amount, b.Imported, b.Receipt = h.amount, h.number < 0, h.receipt
			b.Block = block.Block{Number: uint64(max(0, h.number)), Time: h.at}
			rows = append(rows, holding.Row{Wallet: w, Balance: b})
		}
		if len(rows) == begun && w.ID != after.Wallet {
			rows = append(rows, holding.Row{Wallet: w})
		}
		if len(rows) >= limit {
			return rows[:limit], nil
		}
	}
	return rows, nil
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
		       b.symbol, b.name, b.decimals, b.verified, b.without_code, b.receipt,
		       CASE WHEN coalesce(b.place, 1) = 1 AND w.id <> @wallet THEN `+marketsJSON+` END AS markets
		FROM wallets w
		LEFT JOIN LATERAL (
			SELECT *, row_number() OVER (ORDER BY token_id) AS place FROM balances
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
	out, ids, err := holdingsFromRows(rows)
	if err != nil || len(ids) == 0 {
		return out, err
	}
	tokens, err := (&Tokens{db: s.db, caches: s.caches}).byIDs(ctx, ids)
	for i := range out {
		out[i].Assets = holding.KnownAssets(out[i].Positions, tokens)
	}
	return out, err
}

// holdingsFromRows also returns the assets of positions.
func holdingsFromRows(rows []holdingRow) (out []holding.Row, assets []string, err error) {
	out = make([]holding.Row, len(rows))
	seen := map[string]bool{}
	for i, r := range rows {
		if out[i], err = holdingFromRow(r); err != nil {
			return nil, nil, err
		}
		if out[i].Positions, err = readingsFrom(r.Markets); err != nil {
			return nil, nil, err
		}
		for id := range defi.Assets(out[i].Positions) {
			if !seen[id] {
				seen[id] = true
				assets = append(assets, id)
			}
		}
		if i > 0 && out[i].Wallet.ID == out[i-1].Wallet.ID {
			out[i].Wallet = out[i-1].Wallet
		}
	}
	return out, assets, nil
}

func holdingFromRow(r holdingRow) (holding.Row, error) {
	w, err := fromRow(r.Wallet)
	if err != nil || r.TokenID == nil {
		return holding.Row{Wallet: &w}, err
	}
	b, err := balanceFromRow(balanceRow{
		TokenID: *r.TokenID, Amount: *r.Amount, BlockNumber: *r.BlockNumber,
		BlockHash: r.BlockHash, BlockTime: *r.BlockTime, Receipt: *r.Receipt,
		Token: tokenRow{ID: *r.TokenID, Symbol: *r.Symbol, Name: *r.Name, Decimals: *r.Decimals,
			Verified: *r.Verified, WithoutCode: *r.WithoutCode},
	})
	return holding.Row{Wallet: &w, Balance: &b}, err
}
