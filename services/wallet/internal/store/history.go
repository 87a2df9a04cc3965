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
	"github.com/purserhq/purser/services/wallet/internal/price"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

// History implements history.Store.
type History struct {
	db         *postgres.DB
	partitions *Partitions
}

// NewHistory returns the history in db.
func NewHistory(db *postgres.DB, p *Partitions) *History { return &History{db: db, partitions: p} }

// Wallets implements history.Store.
func (s *History) Wallets(ctx context.Context, owner uuid.UUID) ([]wallet.Wallet, error) {
	var rows []walletRow
	q := s.db.Gorm(ctx).Where("owner_id = ? AND archived_at IS NULL", owner).Order("id")
	if err := q.Find(&rows).Error; err != nil {
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

// Records implements history.Store.
func (s *History) Records(ctx context.Context, owner uuid.UUID, from, until time.Time) ([]history.Record, error) {
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
		WHERE w.owner_id = ? AND w.archived_at IS NULL AND h.hour >= ? AND h.hour < ?`,
		owner, from, until).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read the history's records: %w", err)
	}
	records := make([]history.Record, len(rows))
	for i, r := range rows {
		records[i] = history.Record{WalletHour: history.WalletHour{Wallet: r.WalletID, Hour: r.Hour.Unix()},
			TokenCount: r.TokenCount, Unread: r.Unread, ReadAt: r.ReadAt}
	}
	return records, nil
}

// SaveBalances implements history.Store. The number of statements doesn't depend
// on that of the hours.
func (s *History) SaveBalances(ctx context.Context, hours []history.HourBalances) error {
	if len(hours) == 0 {
		return nil
	}
	starts := make([]time.Time, len(hours))
	for i, h := range hours {
		starts[i] = time.Unix(h.Hour, 0)
	}
	s.partitions.Ensure(ctx, starts, "wallet_history", "balance_history")
	return postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		return postgres.Raw(tx, func(conn *pgx.Conn) error { return saveHours(ctx, conn, hours) })
	})
}

// saveHours writes the hours of the wallets that exist. It locks those against
// deletion until the end of the transaction, and writes in one order, so that
// concurrent calls don't deadlock.
func saveHours(ctx context.Context, conn *pgx.Conn, hours []history.HourBalances) error {
	var ids []uuid.UUID
	for _, h := range hours {
		ids = append(ids, h.Wallet)
	}
	rows, err := conn.Query(ctx, "SELECT id FROM wallets WHERE id = ANY($1) ORDER BY id FOR KEY SHARE",
		slices.Compact(slices.SortedFunc(slices.Values(ids), compareIDs)))
	if err != nil {
		return fmt.Errorf("read wallets: %w", err)
	}
	existing, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return fmt.Errorf("read wallets: %w", err)
	}
	hours = slices.DeleteFunc(slices.Clone(hours),
		func(h history.HourBalances) bool { return !slices.Contains(existing, h.Wallet) })
	slices.SortFunc(hours, func(a, b history.HourBalances) int {
		return cmp.Or(compareIDs(a.Wallet, b.Wallet), cmp.Compare(a.Hour, b.Hour))
	})
	if err := upsertHours(ctx, conn, hours); err != nil {
		return fmt.Errorf("store history: %w", err)
	}
	return nil
}

func compareIDs(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) }

// upsertHours writes hours, and their balances in place of those that are stored.
func upsertHours(ctx context.Context, conn *pgx.Conn, read []history.HourBalances) error {
	n := len(read)
	// As [16]byte, since pgx encodes a uuid.UUID by way of its text.
	ids, hours, readAt := make([][16]byte, n), make([]time.Time, n), make([]time.Time, n)
	blocks, hashes, times := make([]int64, n), make([][]byte, n), make([]*time.Time, n)
	counts, unread := make([]int32, n), make([]string, n)
	var of [][16]byte
	var at []time.Time
	var tokens, amounts []string
	for i, e := range read {
		ids[i], hours[i], readAt[i] = e.Wallet, time.Unix(e.Hour, 0), e.ReadAt
		blocks[i], hashes[i], counts[i], unread[i] = int64(e.Block.Number), e.Block.Hash[:], int32(e.TokenCount),
			e.Unread
		if !e.Block.Time.IsZero() {
			times[i] = &e.Block.Time
		}
		for _, id := range slices.Sorted(maps.Keys(e.Balances)) {
			amount := e.Balances[id]
			of, at, tokens, amounts = append(of, e.Wallet), append(at, hours[i]), append(tokens, id),
				append(amounts, amount.Dec())
		}
	}
	args := []any{ids, hours, blocks, hashes, times, counts, unread, readAt}
	inserted, err := conn.Exec(ctx, insertHours+"DO NOTHING", args...)
	if err != nil {
		return err
	}
	if inserted.RowsAffected() < int64(n) { // some are stored already
		if _, err := conn.Exec(ctx, insertHours+replaceHour, args...); err != nil {
			return err
		}
		_, err := conn.Exec(ctx, `
			DELETE FROM balance_history b USING unnest($1::uuid[], $2::timestamptz[]) AS h (wallet_id, hour)
			WHERE b.wallet_id = h.wallet_id AND b.hour = h.hour`, ids, hours)
		if err != nil {
			return err
		}
	}
	_, err = conn.Exec(ctx, `
		INSERT INTO balance_history (wallet_id, hour, token_id, amount)
		SELECT id, hour, token, amount::numeric
		FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::text[]) AS b (id, hour, token, amount)`,
		of, at, tokens, amounts)
	return err
}

const (
	insertHours = `
		INSERT INTO wallet_history (wallet_id, hour, block_number, block_hash, block_time,
		                            token_count, unread, read_at)
		SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::bigint[], $4::bytea[], $5::timestamptz[],
		                     $6::integer[], $7::text[], $8::timestamptz[])
		ON CONFLICT (wallet_id, hour) `
	replaceHour = `DO UPDATE
		SET block_number = excluded.block_number, block_hash = excluded.block_hash, block_time = excluded.block_time,
		    token_count = excluded.token_count, unread = excluded.unread, read_at = excluded.read_at`
)

type historyRow struct {
	Holding      holdingRow `gorm:"embedded"`
	Hour         time.Time
	ReadBlock    int64
	ReadHash     []byte
	ReadTime     *time.Time
	Unread       string
	Price        *string
	Source       *string
	PriceTime    *time.Time
	PriceGoodFor int64 // in seconds
	PriceFetched bool
}

// Rows implements history.Store.
func (s *History) Rows(ctx context.Context, owner uuid.UUID, after history.Cursor, until time.Time,
	limit int) ([]history.Row, error) {
	var rows []historyRow
	from := time.Unix(after.Hour, 0).UTC()
	err := s.db.Gorm(ctx).Raw(historyRows, from, until, from, until, owner, from, until, from, after.Wallet,
		after.Token, limit).Scan(&rows).Error
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

// historyRows has the range of hours for each of the tables, so that only the partitions of its months are read.
const historyRows = `
		SELECT w.id, w.owner_id, w.account, w.label, w.version, w.created_at, w.updated_at,
		       h.hour, h.block_number AS read_block, h.block_hash AS read_hash, h.block_time AS read_time, h.unread,
		       b.token_id, b.amount::text AS amount, t.symbol, t.name, t.decimals, t.verified, t.without_code,
		       p.price::text AS price, p.source, p.price_time,
		       coalesce(p.good_for_seconds, 0) AS price_good_for, p.token_id IS NOT NULL AS price_fetched
		FROM wallets w
		JOIN wallet_history h ON h.wallet_id = w.id
		LEFT JOIN balance_history b ON b.wallet_id = h.wallet_id AND b.hour = h.hour AND b.hour >= ? AND b.hour < ?
		LEFT JOIN tokens t ON t.id = b.token_id
		LEFT JOIN price_history p ON p.token_id = b.token_id AND p.hour = b.hour AND p.hour >= ? AND p.hour < ?
		WHERE w.owner_id = ? AND w.archived_at IS NULL AND h.hour >= ? AND h.hour < ?
		  AND (h.hour, h.wallet_id, coalesce(b.token_id, '')) > (?, ?, ?)
		ORDER BY h.hour, h.wallet_id, coalesce(b.token_id, '')
		LIMIT ?`

func historyFromRow(r historyRow) (history.Row, error) {
	// All balances of an hour are of the block that it was read at.
	atBlock := r.Holding
	atBlock.BlockNumber, atBlock.BlockHash, atBlock.BlockTime = &r.ReadBlock, r.ReadHash, r.ReadTime
	if atBlock.BlockTime == nil { // the chain began later: there are no balances
		atBlock.TokenID = nil
	}
	h, err := holdingFromRow(atBlock)
	if err != nil {
		return history.Row{}, err
	}
	h.Wallet.Sync = wallet.Sync{State: wallet.Synced, Block: uint64(max(0, r.ReadBlock)), At: r.ReadTime,
		Error: r.Unread}
	if h.Balance != nil {
		h.Quote, err = pastQuote(h.Balance.Token.ID, r)
	}
	return history.Row{Hour: r.Hour.UTC(), Row: h}, err
}

func pastQuote(tokenID string, r historyRow) (q price.Quote, err error) {
	q.TokenID = tokenID
	switch {
	case !r.PriceFetched:
		q.Reason = price.SourceUnavailable
	case r.Price == nil || r.Source == nil || r.PriceTime == nil:
		q.Reason = price.NoPrice
	default:
		q.Price, err = priceFromRow(priceRow{TokenID: tokenID, Price: *r.Price, Source: *r.Source,
			PriceTime: *r.PriceTime, GoodForSeconds: r.PriceGoodFor})
	}
	return q, err
}
