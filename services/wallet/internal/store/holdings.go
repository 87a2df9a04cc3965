package store

import (
	"context"
	"fmt"
	"slices"
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
	return s.rowsOf(ctx, wallets, held, positions, after, limit)
}

// rowsOf returns up to limit rows of wallets, their balances after the cursor, and their positions.
func (s *Wallets) rowsOf(ctx context.Context, wallets []wallet.Wallet, held []heldBalance,
	positions map[uuid.UUID][]defi.Reading, after holding.Cursor, limit int) ([]holding.Row, error) {
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
		var err error
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
	rows, err := conn.Query(ctx, `SELECT `+walletColumns+`, CASE WHEN id <> $2 THEN `+marketsJSON+` END FROM wallets w
		WHERE owner_id = $1 AND archived_at IS NULL AND id >= $2 ORDER BY id LIMIT $3`,
		[16]byte(owner), [16]byte(from), limit+1)
	if err != nil {
		return nil, nil, err
	}
	return scanWallets(rows)
}

// walletColumns are those that scanWallets reads, before the positions.
const walletColumns = "id, owner_id, account, sync_state, synced_block, synced_at, sync_error, sync_reason, retry_at"

func scanWallets(rows pgx.Rows) (wallets []wallet.Wallet, positions map[uuid.UUID][]defi.Reading, err error) {
	positions = map[uuid.UUID][]defi.Reading{}
	var markets *string
	var id, owner [16]byte
	var r walletRow
	_, err = pgx.ForEachRow(rows, []any{&id, &owner, &r.Account, &r.SyncState, &r.SyncedBlock, &r.SyncedAt,
		&r.SyncError, &r.SyncReason, &r.RetryAt, &markets}, func() error {
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
	return scanBalances(rows, make([]heldBalance, 0, min(limit, 32*len(wallets))))
}

// scanBalances appends what a query of balances returned.
func scanBalances(rows pgx.Rows, held []heldBalance) ([]heldBalance, error) {
	known := map[string]string{} // ids, which are the same few in many rows
	var h heldBalance
	var id, digits pgtype.DriverBytes
	_, err := pgx.ForEachRow(rows, []any{&h.wallet, &id, &digits, &h.number, &h.at, &h.receipt}, func() (err error) {
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
	var wallets []wallet.Wallet
	var held []heldBalance
	var positions map[uuid.UUID][]defi.Reading
	err := postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		return postgres.Raw(tx, func(conn *pgx.Conn) (err error) {
			if held, err = shardBalances(ctx, conn, shard, shards, after, limit); err == nil {
				wallets, positions, err = walletsOf(ctx, conn, held, after.Wallet)
			}
			return err
		})
	}, postgres.RepeatableRead, postgres.ReadOnly)
	if err != nil {
		return nil, fmt.Errorf("read holdings of a shard: %w", err)
	}
	held = slices.DeleteFunc(held, func(h heldBalance) bool { return h.token == "" })
	return s.rowsOf(ctx, wallets, held, positions, after.Cursor, limit)
}

// shardBalances returns up to limit balances after the cursor, by owner, wallet and token. A wallet without any has
// one without a token.
func shardBalances(ctx context.Context, conn *pgx.Conn, shard, shards int, after holding.ShardCursor,
	limit int) ([]heldBalance, error) {
	rows, err := conn.Query(ctx, `
		SELECT w.id, coalesce(b.token_id, ''), coalesce(b.amount::text, '0'), coalesce(b.block_number, 0),
		       coalesce(b.block_time, to_timestamp(0)), coalesce(b.receipt, false)
		FROM wallets w
		LEFT JOIN LATERAL (
			SELECT token_id, amount, block_number, block_time, receipt FROM balances
			WHERE wallet_id = w.id AND amount > 0 AND (w.id <> $2 OR token_id > $3)
			ORDER BY token_id LIMIT $6) b ON true
		WHERE (w.owner_id, w.id) >= ($1, $2)
		  AND w.archived_at IS NULL
		  AND CASE get_byte(uuid_send(w.owner_id), 15) % $5 WHEN $4 THEN true ELSE false END
		  AND (w.owner_id, w.id, coalesce(b.token_id, '')) > ($1, $2, $3)
		ORDER BY w.owner_id, w.id, coalesce(b.token_id, '')
		LIMIT $6`, [16]byte(after.Owner), [16]byte(after.Wallet), after.Token, shard, shards, limit)
	if err != nil {
		return nil, err
	}
	return scanBalances(rows, make([]heldBalance, 0, limit))
}

// walletsOf returns the wallets of balances in their order, and their positions, without those of the wallet from.
func walletsOf(ctx context.Context, conn *pgx.Conn, held []heldBalance, from uuid.UUID) ([]wallet.Wallet,
	map[uuid.UUID][]defi.Reading, error) {
	var ids [][16]byte
	for i, h := range held {
		if i == 0 || h.wallet != held[i-1].wallet {
			ids = append(ids, h.wallet)
		}
	}
	if len(ids) == 0 {
		return nil, nil, nil
	}
	rows, err := conn.Query(ctx, `SELECT `+walletColumns+`, CASE WHEN id <> $2 THEN `+marketsJSON+` END FROM wallets w
		WHERE id = ANY($1::uuid[]) ORDER BY owner_id, id`, ids, [16]byte(from))
	if err != nil {
		return nil, nil, err
	}
	return scanWallets(rows)
}
