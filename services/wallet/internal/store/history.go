package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/internal/partition"
	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/history"
	"github.com/purserhq/purser/services/wallet/internal/price"
	"github.com/purserhq/purser/services/wallet/internal/token"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

// History implements history.Store.
type History struct {
	db         *postgres.DB
	partitions *partition.Partitions
}

// NewHistory returns the history in db.
func NewHistory(db *postgres.DB, p *partition.Partitions) *History {
	return &History{db: db, partitions: p}
}

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
		WalletID      uuid.UUID
		Hour          time.Time
		Hours         int64
		AssetCount    int
		Unread        string
		MarketsUnread bool
		ReadAt        time.Time
	}
	err := s.db.Gorm(ctx).Raw(`
		SELECT h.wallet_id, h.hour, h.hours, h.asset_count, h.unread, h.markets_unread, h.read_at
		FROM wallets w JOIN wallet_history h ON h.wallet_id = w.id
		WHERE w.owner_id = ? AND w.archived_at IS NULL AND h.hour >= ? AND h.hour < ?`,
		owner, history.Frame(from), until).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read the history's records: %w", err)
	}
	total := int64(0)
	for _, r := range rows {
		total += r.Hours
	}
	records := make([]history.Record, 0, total)
	for _, r := range rows {
		first := r.Hour.Unix()
		for hour := max(first, from.Unix()); hour < min(first+r.Hours*hourSeconds, until.Unix()); hour += hourSeconds {
			records = append(records, history.Record{WalletHour: history.WalletHour{Wallet: r.WalletID, Hour: hour},
				AssetCount: r.AssetCount, Unread: r.Unread, MarketsUnread: r.MarketsUnread, ReadAt: r.ReadAt})
		}
	}
	return records, nil
}

// hourSeconds are the seconds of an hour.
const hourSeconds = 3600

// Past implements history.Store with a number of statements that doesn't depend on the hours and wallets.
func (s *History) Past(ctx context.Context, owner uuid.UUID, from, until time.Time) (past history.Past, err error) {
	err = postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		return postgres.Raw(tx, func(conn *pgx.Conn) (err error) {
			past, err = readPast(ctx, conn, owner, from, until)
			return err
		})
	}, postgres.RepeatableRead, postgres.ReadOnly)
	if err != nil {
		return history.Past{}, fmt.Errorf("read history: %w", err)
	}
	return past, nil
}

func readPast(ctx context.Context, conn *pgx.Conn, owner uuid.UUID, from, until time.Time) (history.Past, error) {
	past := history.Past{Tokens: map[string]token.Token{}, Blocks: map[history.ChainHour]block.Block{},
		Quotes: map[history.TokenAt]price.Quote{}}
	var chains []int64
	var err error
	if past.Wallets, chains, err = readAmounts(ctx, conn, owner, from, until); err != nil {
		return past, err
	}
	rows, err := conn.Query(ctx, `
		SELECT chain, hour, block_number, block_time FROM chain_hours
		WHERE chain = ANY($1::bigint[]) AND hour >= $2 AND hour < $3`, chains, from, until)
	if err != nil {
		return past, err
	}
	var chain, number int64
	var hour time.Time
	var at *time.Time
	_, err = pgx.ForEachRow(rows, []any{&chain, &hour, &number, &at}, func() error {
		b := block.Block{}
		if at != nil {
			b = block.Block{Number: uint64(number), Time: *at}
		}
		past.Blocks[history.ChainHour{Chain: uint64(chain), Hour: hour.Unix()}] = b
		return nil
	})
	if err != nil {
		return past, err
	}
	var ids []string
	for id := range past.HeldTokens(from, until) {
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		return past, nil
	}
	slices.Sort(ids)
	if past.Tokens, err = pastTokens(ctx, conn, ids); err != nil {
		return past, err
	}
	return past, readQuotes(ctx, conn, past.Quotes, ids, from, until)
}

// readAmounts returns what the owner's wallets held, and their chains.
func readAmounts(ctx context.Context, conn *pgx.Conn, owner uuid.UUID, from, until time.Time) (
	wallets map[uuid.UUID]*history.WalletPast, chains []int64, err error) {
	rows, err := conn.Query(ctx, readRanges, [16]byte(owner), history.Frame(from), until)
	if err != nil {
		return nil, nil, err
	}
	wallets = map[uuid.UUID]*history.WalletPast{}
	seen := map[int64]bool{}
	var ids [][16]byte
	var id [16]byte
	var chain, hours int64
	var hour time.Time
	var unread string
	_, err = pgx.ForEachRow(rows, []any{&id, &chain, &hour, &hours, &unread}, func() error {
		w := wallets[id]
		if w == nil {
			w = &history.WalletPast{}
			wallets[id] = w
			ids = append(ids, id)
		}
		if !seen[chain] {
			seen[chain] = true
			chains = append(chains, chain)
		}
		w.Read = append(w.Read, history.ReadHours{From: hour.Unix(), Until: hour.Unix() + hours*hourSeconds,
			Unread: unread})
		return nil
	})
	if err != nil || len(ids) == 0 {
		return wallets, chains, err
	}
	if rows, err = conn.Query(ctx, readChangedAmounts, ids, history.Frame(from), until); err != nil {
		return nil, nil, err
	}
	var tokenID, text string
	_, err = pgx.ForEachRow(rows, []any{&id, &hour, &tokenID, &text}, func() error {
		a, err := amount(text)
		w := wallets[id]
		w.Changes = append(w.Changes, history.Change{Hour: hour.Unix(), Token: tokenID, Amount: a})
		return err
	})
	if err == nil {
		err = readPastPositions(ctx, conn, wallets, ids, from, until)
	}
	return wallets, chains, err
}

// readRanges and readChangedAmounts name the range of hours, so that only the partitions of its months are read.
const (
	readRanges = `
		SELECT w.id, split_part(w.account, ':', 2)::bigint, h.hour, h.hours::bigint, h.unread
		FROM wallets w JOIN wallet_history h ON h.wallet_id = w.id
		WHERE w.owner_id = $1 AND w.archived_at IS NULL AND h.hour >= $2 AND h.hour < $3
		ORDER BY w.id, h.hour`
	readChangedAmounts = `
		SELECT wallet_id, hour, token_id, amount::text FROM balance_history
		WHERE wallet_id = ANY($1::uuid[]) AND hour >= $2 AND hour < $3 ORDER BY wallet_id, hour`
	readPastQuotes = `
		SELECT token_id, hour, price::text, source, price_time, good_for_seconds FROM price_history
		WHERE token_id = ANY($1::text[]) AND hour >= $2 AND hour < $3`
)

func pastTokens(ctx context.Context, conn *pgx.Conn, ids []string) (map[string]token.Token, error) {
	rows, err := conn.Query(ctx, `
		SELECT id, symbol, name, decimals, verified, without_code, spam FROM tokens WHERE id = ANY($1::text[])`, ids)
	if err != nil {
		return nil, err
	}
	tokens := make(map[string]token.Token, len(ids))
	var r tokenRow
	_, err = pgx.ForEachRow(rows, []any{&r.ID, &r.Symbol, &r.Name, &r.Decimals, &r.Verified, &r.WithoutCode,
		&r.Spam},
		func() (err error) {
			tokens[r.ID], err = tokenFromRow(r)
			return err
		})
	return tokens, err
}

// readQuotes adds the quotes that are stored.
func readQuotes(ctx context.Context, conn *pgx.Conn, quotes map[history.TokenAt]price.Quote, ids []string,
	from, until time.Time) error {
	rows, err := conn.Query(ctx, readPastQuotes, ids, from, until)
	if err != nil {
		return err
	}
	var id, source string
	var hour time.Time
	var value *string
	var at *time.Time
	var goodFor int64
	_, err = pgx.ForEachRow(rows, []any{&id, &hour, &value, &source, &at, &goodFor}, func() (err error) {
		q := price.Quote{TokenID: id}
		if value == nil || at == nil {
			q.Reason = price.NoPrice
		} else {
			q.Price, err = priceFromRow(priceRow{TokenID: id, Price: *value, Source: source, PriceTime: *at,
				GoodForSeconds: goodFor})
		}
		quotes[history.TokenAt{Token: id, Hour: hour.Unix()}] = q
		return err
	})
	return err
}
