package store

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/wallet/internal/history"
	"github.com/purserhq/purser/services/wallet/internal/holding"
	"github.com/purserhq/purser/services/wallet/internal/price"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

// History implements history.Store.
type History struct{ db *postgres.DB }

// NewHistory returns the history in db.
func NewHistory(db *postgres.DB) *History { return &History{db: db} }

// All implements history.Store.
func (s *History) All(ctx context.Context, owner uuid.UUID) ([]wallet.Wallet, error) {
	var rows []walletRow
	if err := s.db.Gorm(ctx).Where("owner_id = ?", owner).Order("id").Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("read wallets: %w", err)
	}
	wallets := make([]wallet.Wallet, len(rows))
	for i, r := range rows {
		var err error
		if wallets[i], err = fromRow(r); err != nil {
			return nil, err
		}
	}
	return wallets, nil
}

// Kept implements history.Store.
func (s *History) Kept(ctx context.Context, owner uuid.UUID, from, until time.Time) ([]history.Kept, error) {
	var rows []struct {
		WalletID   uuid.UUID
		Hour       time.Time
		TokenCount int
		Unread     string
		ReadAt     time.Time
	}
	err := s.db.Gorm(ctx).Raw(`
		SELECT h.wallet_id, h.hour, h.token_count, h.unread, h.read_at
		FROM wallets w JOIN wallet_history h ON h.wallet_id = w.id
		WHERE w.owner_id = ? AND h.hour >= ? AND h.hour < ?`, owner, from, until).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read what is known of the history: %w", err)
	}
	kept := make([]history.Kept, len(rows))
	for i, r := range rows {
		kept[i] = history.Kept{Key: history.Key{Wallet: r.WalletID, Hour: r.Hour.Unix()}, Tokens: r.TokenCount,
			Unread: r.Unread, ReadAt: r.ReadAt}
	}
	return kept, nil
}

// Keep implements history.Store: five statements, whatever the number of
// entries.
func (s *History) Keep(ctx context.Context, entries []history.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	return postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		return postgres.Raw(tx, func(conn *pgx.Conn) error { return keep(ctx, conn, entries) })
	})
}

// keep writes the wallets that are still there, which stay until the end of
// the transaction, and in one order, so that two don't deadlock.
func keep(ctx context.Context, conn *pgx.Conn, entries []history.Entry) error {
	var ids []uuid.UUID
	for _, e := range entries {
		ids = append(ids, e.Wallet)
	}
	rows, err := conn.Query(ctx, "SELECT id FROM wallets WHERE id = ANY($1) ORDER BY id FOR KEY SHARE",
		slices.Compact(slices.SortedFunc(slices.Values(ids), compareIDs)))
	if err != nil {
		return fmt.Errorf("read wallets: %w", err)
	}
	there, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return fmt.Errorf("read wallets: %w", err)
	}
	entries = slices.DeleteFunc(slices.Clone(entries),
		func(e history.Entry) bool { return !slices.Contains(there, e.Wallet) })
	slices.SortFunc(entries, func(a, b history.Entry) int {
		return cmp.Or(compareIDs(a.Wallet, b.Wallet), cmp.Compare(a.Hour, b.Hour))
	})
	if err := keepHours(ctx, conn, entries); err != nil {
		return fmt.Errorf("store history: %w", err)
	}
	return nil
}

func compareIDs(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) }

func keepHours(ctx context.Context, conn *pgx.Conn, entries []history.Entry) error {
	n := len(entries)
	ids, hours, readAt := make([]uuid.UUID, n), make([]time.Time, n), make([]time.Time, n)
	blocks, hashes, times := make([]int64, n), make([][]byte, n), make([]*time.Time, n)
	counts, unread := make([]int32, n), make([]string, n)
	var of []uuid.UUID
	var at []time.Time
	var tokens, amounts []string
	for i, e := range entries {
		ids[i], hours[i], readAt[i] = e.Wallet, time.Unix(e.Hour, 0), e.ReadAt
		blocks[i], hashes[i], counts[i], unread[i] = int64(e.Block.Number), e.Block.Hash[:], int32(e.Tokens), e.Unread
		if !e.Block.Time.IsZero() {
			times[i] = &e.Block.Time
		}
		for _, id := range slices.Sorted(maps.Keys(e.Balances)) {
			amount := e.Balances[id]
			of, at, tokens, amounts = append(of, e.Wallet), append(at, hours[i]), append(tokens, id),
				append(amounts, amount.Dec())
		}
	}
	_, err := conn.Exec(ctx, `
		INSERT INTO wallet_history (wallet_id, hour, block_number, block_hash, block_time, token_count, unread, read_at)
		SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::bigint[], $4::bytea[], $5::timestamptz[], $6::integer[], $7::text[], $8::timestamptz[])
		ON CONFLICT (wallet_id, hour) DO UPDATE
		SET block_number = excluded.block_number, block_hash = excluded.block_hash, block_time = excluded.block_time,
		    token_count = excluded.token_count, unread = excluded.unread, read_at = excluded.read_at`,
		ids, hours, blocks, hashes, times, counts, unread, readAt)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, `
		DELETE FROM balance_history b USING unnest($1::uuid[], $2::timestamptz[]) AS h (wallet_id, hour)
		WHERE b.wallet_id = h.wallet_id AND b.hour = h.hour`, ids, hours)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, `
		INSERT INTO balance_history (wallet_id, hour, token_id, amount)
		SELECT id, hour, token, amount::numeric
		FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::text[]) AS b (id, hour, token, amount)`,
		of, at, tokens, amounts)
	return err
}

type historyRow struct {
	Holding    holdingRow `gorm:"embedded"`
	Hour       time.Time
	ReadBlock  int64
	ReadHash   []byte
	ReadTime   *time.Time
	Unread     string
	Price      *string
	Source     *string
	PriceTime  *time.Time
	PriceAsked bool
}

// Rows implements history.Store.
func (s *History) Rows(ctx context.Context, owner uuid.UUID, after history.Cursor, until time.Time,
	limit int) ([]history.Row, error) {
	var rows []historyRow
	from := time.Unix(after.Hour, 0).UTC()
	err := s.db.Gorm(ctx).Raw(`
		SELECT w.id, w.owner_id, w.account, w.label, w.version, w.created_at, w.updated_at,
		       h.hour, h.block_number AS read_block, h.block_hash AS read_hash, h.block_time AS read_time, h.unread,
		       b.token_id, b.amount::text AS amount, t.symbol, t.name, t.decimals, t.verified,
		       p.price::text AS price, p.source, p.price_time, p.token_id IS NOT NULL AS price_asked
		FROM wallets w
		JOIN wallet_history h ON h.wallet_id = w.id
		LEFT JOIN balance_history b ON b.wallet_id = h.wallet_id AND b.hour = h.hour
		LEFT JOIN tokens t ON t.id = b.token_id
		LEFT JOIN price_history p ON p.token_id = b.token_id AND p.hour = b.hour
		WHERE w.owner_id = ? AND h.hour >= ? AND h.hour < ?
		  AND (h.hour, h.wallet_id, coalesce(b.token_id, '')) > (?, ?, ?)
		ORDER BY h.hour, h.wallet_id, coalesce(b.token_id, '')
		LIMIT ?`, owner, from, until, from, after.Wallet, after.Token, limit).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read history: %w", err)
	}
	out := make([]history.Row, len(rows))
	for i, r := range rows {
		if out[i], err = historyFromRow(r); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func historyFromRow(r historyRow) (history.Row, error) {
	// An hour's balances are all of one block.
	of := r.Holding
	of.BlockNumber, of.BlockHash, of.BlockTime = &r.ReadBlock, r.ReadHash, r.ReadTime
	if of.BlockTime == nil { // nor are there balances before the chain began
		of.TokenID = nil
	}
	h, err := holdingFromRow(of)
	if err != nil {
		return history.Row{}, err
	}
	h.Wallet.Sync = wallet.Sync{State: wallet.Synced, Block: uint64(max(0, r.ReadBlock)), At: r.ReadTime,
		Error: r.Unread}
	if h.Balance != nil {
		h.Quote, err = pastQuote(h.Balance.Token.ID, r)
	}
	return history.Row{Hour: r.Hour.UTC(), Row: holding.Row{Wallet: h.Wallet, Balance: h.Balance, Quote: h.Quote}}, err
}

func pastQuote(id string, r historyRow) (price.Quote, error) {
	q := price.Quote{TokenID: id}
	switch {
	case !r.PriceAsked:
		q.Reason = price.SourceUnavailable
	case r.Price == nil || r.Source == nil || r.PriceTime == nil:
		q.Reason = price.NoPrice
	default:
		text, err := price.Parse(*r.Price)
		if err != nil {
			return q, fmt.Errorf("price of %s in the database: %w", id, err)
		}
		q.Price, q.Source, q.At = text, *r.Source, r.PriceTime.UTC()
	}
	return q, nil
}
