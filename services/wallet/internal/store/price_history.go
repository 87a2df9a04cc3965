package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/wallet/internal/history"
	"github.com/purserhq/purser/services/wallet/internal/price"
)

// settledPrices is how long after an hour its last price may still come in.
const settledPrices = "15 minutes"

// Wanted implements history.Store.
func (s *History) Wanted(ctx context.Context, owner uuid.UUID, from, until, recently time.Time) ([]history.Wanted,
	error) {
	var rows []struct {
		Token tokenRow `gorm:"embedded"`
		Hour  time.Time
	}
	err := s.db.Gorm(ctx).Raw(`
		SELECT DISTINCT t.id, t.chain, t.contract, t.symbol, t.name, t.decimals, t.verified, b.hour
		FROM wallets w
		JOIN balance_history b ON b.wallet_id = w.id
		JOIN tokens t ON t.id = b.token_id
		LEFT JOIN price_history p ON p.token_id = b.token_id AND p.hour = b.hour
		WHERE w.owner_id = ? AND b.hour >= ? AND b.hour < ?
		  AND (p.token_id IS NULL OR p.asked_at < ? AND (p.price IS NULL OR p.asked_at < p.hour + interval '`+settledPrices+`'))
		ORDER BY b.hour, t.id`, owner, from, until, recently).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read which prices are wanted: %w", err)
	}
	out := make([]history.Wanted, len(rows))
	for i, r := range rows {
		out[i].Hour = r.Hour.UTC()
		if out[i].Token, err = tokenFromRow(r.Token); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// KeepPrices implements history.Store: one statement. Rows are locked in one
// order, so that two that ask for the same don't deadlock; a price that is
// known is not lost because a source has none any more.
func (s *History) KeepPrices(ctx context.Context, hours []history.Wanted, quotes []price.Quote,
	askedAt time.Time) error {
	n := len(hours)
	if n == 0 {
		return nil
	}
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(hours[a].Token.ID, hours[b].Token.ID), hours[a].Hour.Compare(hours[b].Hour))
	})
	tokens, at, sources := make([]string, n), make([]time.Time, n), make([]string, n)
	prices, times := make([]*string, n), make([]*time.Time, n)
	for i, from := range order {
		tokens[i], at[i] = hours[from].Token.ID, hours[from].Hour
		if q := quotes[from]; q.Price != "" {
			sources[i], prices[i], times[i] = q.Source, &q.Price, &q.At
		}
	}
	return postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		return postgres.Raw(tx, func(conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, keepPrices, askedAt, tokens, at, prices, sources, times)
			if err != nil {
				return fmt.Errorf("store past prices: %w", err)
			}
			return nil
		})
	})
}

const keepPrices = `
	INSERT INTO price_history (token_id, hour, price, source, price_time, asked_at)
	SELECT token, hour, price::numeric, source, at, $1
	FROM unnest($2::text[], $3::timestamptz[], $4::text[], $5::text[], $6::timestamptz[]) AS p (token, hour, price, source, at)
	ON CONFLICT (token_id, hour) DO UPDATE
	SET asked_at = excluded.asked_at,
	    price = coalesce(excluded.price, price_history.price),
	    source = CASE WHEN excluded.price IS NULL THEN price_history.source ELSE excluded.source END,
	    price_time = coalesce(excluded.price_time, price_history.price_time)`
