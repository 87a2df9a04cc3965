package store

import (
	"context"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/internal/feed"
	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/transaction"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

// Transactions implements transaction.Store and transaction.ScanStore.
type Transactions struct {
	db     *postgres.DB
	tokens *Tokens
}

// NewTransactions returns the movements in db.
func NewTransactions(db *postgres.DB, t *Tokens) *Transactions {
	return &Transactions{db: db, tokens: t}
}

type movementRow struct {
	WalletID           uuid.UUID
	BlockNumber        int64
	TransactionIndex   int32
	LogIndex           int32
	TokenID            string
	Kind               string
	Amount             string
	SelfAmount         string
	Counterparty       string
	Hash               []byte
	BlockHash          []byte
	BlockTime          time.Time
	RowID              string
	CounterpartyWallet *uuid.UUID
	Token              tokenRow `gorm:"embedded;embeddedPrefix:token_row_"`
}

// List implements transaction.Store. The counterparty's wallet is found by the key of an
// owner's accounts, so it is one of today's wallets.
func (s *Transactions) List(ctx context.Context, owner uuid.UUID, f transaction.Filter, after *transaction.Cursor,
	limit int) ([]transaction.Movement, error) {
	where, args := []string{"w.owner_id = ?"}, []any{owner}
	add := func(condition string, values ...any) {
		where, args = append(where, condition), append(args, values...)
	}
	if f.Wallet != uuid.Nil {
		var one bool
		err := s.db.Gorm(ctx).Raw("SELECT EXISTS (SELECT FROM wallets WHERE id = ? AND owner_id = ?)", f.Wallet,
			owner).Row().Scan(&one)
		if err != nil {
			return nil, fmt.Errorf("read wallet: %w", err)
		}
		if !one {
			return nil, noWallet(f.Wallet)
		}
		add("t.wallet_id = ?", f.Wallet)
	} else {
		add("NOT (t.amount > 0 AND t.kind = 'TRANSFER' AND p.id IS NOT NULL AND t.block_number >= 0)")
	}
	if f.Token != "" {
		add("t.token_id = ?", f.Token)
	}
	if len(f.Kinds) > 0 {
		add("t.kind IN ?", f.Kinds)
	}
	if !f.From.IsZero() {
		add("t.block_time >= ?", f.From)
	}
	if !f.Until.IsZero() {
		add("t.block_time < ?", f.Until)
	}
	if after != nil {
		add("(t.block_time, t.wallet_id, t.block_number, t.transaction_index, t.log_index, t.token_id)"+
			" < (?, ?, ?, ?, ?, ?)", after.Time, after.Wallet, after.Block, after.TransactionIndex,
			after.LogIndex, after.Token)
	}
	var rows []movementRow
	err := s.db.Gorm(ctx).Raw(`
		SELECT t.*, p.id AS counterparty_wallet, k.id AS token_row_id, k.chain AS token_row_chain,
		       k.contract AS token_row_contract, k.symbol AS token_row_symbol, k.name AS token_row_name,
		       k.decimals AS token_row_decimals, k.verified AS token_row_verified,
		       k.decimals_checked AS token_row_decimals_checked, k.without_code AS token_row_without_code,
		       k.discovered AS token_row_discovered, k.spam AS token_row_spam
		FROM transactions t JOIN wallets w ON w.id = t.wallet_id JOIN tokens k ON k.id = t.token_id
		LEFT JOIN wallets p ON p.owner_id = w.owner_id AND p.id <> w.id AND t.counterparty <> ''
		     AND p.account = k.chain || ':' || t.counterparty
		WHERE `+strings.Join(where, " AND ")+`
		ORDER BY t.block_time DESC, t.wallet_id DESC, t.block_number DESC, t.transaction_index DESC,
		         t.log_index DESC, t.token_id DESC
		LIMIT ?`, append(args, limit)...).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("list transactions: %w", err)
	}
	out := make([]transaction.Movement, len(rows))
	for i, r := range rows {
		if out[i], err = movementFromRow(r); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func movementFromRow(r movementRow) (m transaction.Movement, err error) {
	if m, err = movementWithout(r); err != nil {
		return m, err
	}
	m.Token, err = tokenFromRow(r.Token)
	return m, err
}

// movementWithout is a movement without its token.
func movementWithout(r movementRow) (transaction.Movement, error) {
	m := transaction.Movement{
		Position: transaction.Position{Block: uint64(max(0, r.BlockNumber)), TransactionIndex: r.TransactionIndex,
			LogIndex: r.LogIndex, TokenID: r.TokenID},
		Wallet: r.WalletID, Kind: transaction.Kind(r.Kind), Direction: transaction.In,
		Counterparty: common.HexToAddress(r.Counterparty), Hash: hash(r.Hash),
		At:       block.Block{Number: uint64(max(0, r.BlockNumber)), Hash: hash(r.BlockHash), Time: r.BlockTime},
		Imported: r.BlockNumber < 0, RowID: r.RowID,
	}
	if r.CounterpartyWallet != nil {
		m.CounterpartyWallet = *r.CounterpartyWallet
	}
	text := r.Amount
	switch {
	case text == "0":
		m.Direction, text = transaction.Self, r.SelfAmount
	case strings.HasPrefix(text, "-"):
		m.Direction, text = transaction.Out, text[1:]
	}
	var ok bool
	if m.Amount, ok = new(big.Int).SetString(text, 10); !ok {
		return m, fmt.Errorf("amount %q in the database", text)
	}
	return m, nil
}

// DueScans implements transaction.ScanStore.
func (s *Transactions) DueScans(ctx context.Context, chain uint64, limit int) ([]transaction.Scan, error) {
	var rows []struct {
		Wallet       walletRow `gorm:"embedded"`
		ScannedBlock int64
	}
	err := s.db.Gorm(ctx).Raw(`
		SELECT w.*, coalesce(s.scanned_block, 0) AS scanned_block
		FROM wallets w LEFT JOIN transaction_scans s ON s.wallet_id = w.id
		WHERE split_part(w.account, ':', 2) = ? AND w.synced_at IS NOT NULL AND w.archived_at IS NULL
		  AND coalesce(s.scanned_block, 0) < w.synced_block
		ORDER BY coalesce(s.scanned_block, 0), w.id LIMIT ?`, fmt.Sprint(chain), limit).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read due scans: %w", err)
	}
	out := make([]transaction.Scan, len(rows))
	for i, r := range rows {
		w, err := fromRow(r.Wallet)
		if err != nil {
			return nil, err
		}
		out[i] = transaction.Scan{Wallet: w.ID, Account: w.Account, Scanned: uint64(max(0, r.ScannedBlock)),
			Synced: w.Sync.Block}
	}
	return out, nil
}

// Checkpoints implements transaction.ScanStore.
func (s *Transactions) Checkpoints(ctx context.Context, chain uint64) ([]block.Block, error) {
	var rows []struct {
		BlockNumber int64
		BlockHash   []byte
	}
	err := s.db.Gorm(ctx).Raw(`SELECT block_number, block_hash FROM scanned_blocks WHERE chain = ?
		ORDER BY block_number DESC`, int64(chain)).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read scanned blocks: %w", err)
	}
	out := make([]block.Block, len(rows))
	for i, r := range rows {
		out[i] = block.Block{Number: uint64(max(0, r.BlockNumber)), Hash: hash(r.BlockHash)}
	}
	return out, nil
}

// maxCheckpoints is how many blocks are remembered of a chain. With a scan a minute they
// go back farther than any reorg; a chain that was reset has none of them.
const maxCheckpoints = 256

// Rollback implements transaction.ScanStore.
func (s *Transactions) Rollback(ctx context.Context, after uint64, r block.Replaced) (removed int, err error) {
	err = postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		removed = 0
		err := postgres.Raw(tx, func(conn *pgx.Conn) (err error) {
			removed, err = rollback(ctx, conn, r.Chain, after)
			return err
		})
		if err != nil {
			return err
		}
		// Nobody waits for it, so no reader is woken.
		return feed.Append(tx, feed.Change{Kind: wallet.BlocksReplaced, Detail: r.String()})
	})
	if err != nil {
		return 0, fmt.Errorf("roll back transactions: %w", err)
	}
	return removed, nil
}

func rollback(ctx context.Context, conn *pgx.Conn, chain, after uint64) (removed int, err error) {
	if err := lockScans(ctx, conn, chain); err != nil {
		return 0, err
	}
	rows, err := conn.Query(ctx, `
		SELECT id FROM wallets WHERE split_part(account, ':', 2) = $1 ORDER BY id FOR NO KEY UPDATE`,
		fmt.Sprint(chain))
	if err != nil {
		return 0, err
	}
	wallets, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return 0, err
	}
	rows, err = conn.Query(ctx, `
		WITH moved AS (DELETE FROM transactions WHERE wallet_id = ANY($1) AND block_number > $2
		               RETURNING wallet_id, token_id),
		     changed AS (DELETE FROM balance_changes WHERE wallet_id = ANY($1) AND block_number > $2
		                 RETURNING wallet_id, token_id)
		SELECT wallet_id, token_id, count(*) FROM (SELECT * FROM moved UNION ALL SELECT * FROM changed) AS gone
		GROUP BY 1, 2 ORDER BY 1, 2`, wallets, int64(after))
	if err != nil {
		return 0, err
	}
	var t touched
	for rows.Next() {
		var w uuid.UUID
		var id string
		var n int
		if err := rows.Scan(&w, &id, &n); err != nil {
			return 0, err
		}
		removed += n
		t.add(w, id, int64(after)+1)
	}
	if err := rows.Err(); err != nil {
		return 0, err
	}
	_, err = conn.Exec(ctx, `UPDATE transaction_scans SET scanned_block = $2
		WHERE wallet_id = ANY($1) AND scanned_block > $2`, wallets, int64(after))
	if err == nil {
		_, err = conn.Exec(ctx, "DELETE FROM scanned_blocks WHERE chain = $1 AND block_number > $2", int64(chain),
			int64(after))
	}
	if err != nil {
		return 0, err
	}
	return removed, adjust(ctx, conn, t)
}

// lockScans has one transaction at a time change the scans of a chain.
func lockScans(ctx context.Context, conn *pgx.Conn, chain uint64) error {
	_, err := conn.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtextextended('transaction_scans:' || $1::text, 0))",
		fmt.Sprint(chain))
	return err
}

// touched are wallets' tokens whose movements or balances changed, each since a block.
type touched struct {
	wallets []uuid.UUID
	tokens  []string
	since   []int64
}

func (t *touched) add(w uuid.UUID, token string, since int64) {
	t.wallets, t.tokens, t.since = append(t.wallets, w), append(t.tokens, token), append(t.since, since)
}

// intervalStarts are the last known balances before the blocks of touched tokens.
const intervalStarts = `
	WITH input AS (
	  SELECT wallet, token, min(since) AS since
	  FROM unnest($1::uuid[], $2::text[], $3::bigint[]) AS i (wallet, token, since) GROUP BY 1, 2),
	starts AS (
	  SELECT i.wallet, i.token, coalesce(before.block_number, -9223372036854775808) AS start,
	         coalesce(before.amount, 0) AS amount
	  FROM input i LEFT JOIN LATERAL (
	    SELECT block_number, amount FROM balance_changes c
	    WHERE c.wallet_id = i.wallet AND c.token_id = i.token AND c.block_number < i.since
	    ORDER BY block_number DESC LIMIT 1) AS before ON true)`

// adjust writes the adjustments of wallets' tokens anew from a block on, so that the movements up to each balance
// that is known add up to it.
//
// The known balances are those of balance_changes and the present one. Each ends an interval, from the one before.
// What the movements of the interval don't explain of the difference is its adjustment, at the block of its end. The
// first interval to look at is the one in which the block is.
func adjust(ctx context.Context, conn *pgx.Conn, t touched) error {
	if len(t.wallets) == 0 {
		return nil
	}
	t, err := removeOverlap(ctx, conn, t)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, intervalStarts+`
		DELETE FROM transactions t USING starts s
		WHERE t.wallet_id = s.wallet AND t.token_id = s.token AND t.block_number > s.start AND t.kind = 'ADJUSTMENT'`,
		t.wallets, t.tokens, t.since)
	if err == nil {
		_, err = conn.Exec(ctx, intervalStarts+`,
		ends AS (
		  SELECT s.wallet, s.token, s.start, s.amount AS start_amount, c.block_number, c.block_hash, c.block_time,
		         c.amount
		  FROM starts s JOIN balance_changes c ON c.wallet_id = s.wallet AND c.token_id = s.token
		   AND c.block_number > s.start
		  UNION ALL
		  SELECT s.wallet, s.token, s.start, s.amount, b.block_number, b.block_hash, b.block_time, b.amount
		  FROM starts s JOIN balances b ON b.wallet_id = s.wallet AND b.token_id = s.token
		   AND b.block_number > s.start
		  WHERE NOT EXISTS (SELECT FROM balance_changes c WHERE c.wallet_id = s.wallet AND c.token_id = s.token
		                    AND c.block_number >= b.block_number)),
		intervals AS (
		  SELECT *, lag(block_number, 1, start) OVER w AS since, amount - lag(amount, 1, start_amount) OVER w AS change
		  FROM ends WINDOW w AS (PARTITION BY wallet, token ORDER BY block_number)),
		sums AS (
		  SELECT i.*, i.change - coalesce((
		    SELECT sum(t.amount) FROM transactions t
		    WHERE t.wallet_id = i.wallet AND t.token_id = i.token
		      AND t.block_number > i.since AND t.block_number <= i.block_number), 0) AS unexplained
		  FROM intervals i)
		INSERT INTO transactions (wallet_id, block_number, transaction_index, log_index, token_id, kind, amount,
		                          hash, block_hash, block_time)
		SELECT wallet, block_number, 2147483647, 0, token, 'ADJUSTMENT', unexplained, '', block_hash, block_time
		FROM sums WHERE unexplained <> 0
		ORDER BY wallet, block_number, token`, t.wallets, t.tokens, t.since)
	}
	if err != nil {
		return fmt.Errorf("adjust transactions: %w", err)
	}
	return nil
}
