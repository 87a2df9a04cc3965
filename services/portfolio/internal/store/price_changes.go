package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/snapshot"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// markedPortfolios is how many portfolios one statement of SpreadPrices looks at.
const markedPortfolios = 500

// PriceCursor implements snapshot.PriceChangeStore.
func (s *Snapshots) PriceCursor(ctx context.Context) (cursor string, err error) {
	if err := s.db.Gorm(ctx).Raw("SELECT cursor FROM price_change_cursor").Scan(&cursor).Error; err != nil {
		return "", fmt.Errorf("read the cursor of price changes: %w", err)
	}
	return cursor, nil
}

// NotePriceChanges implements snapshot.PriceChangeStore.
func (s *Snapshots) NotePriceChanges(ctx context.Context, changes []snapshot.PriceChange, cursor string,
	at time.Time) error {
	return postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		if err := notePriceChanges(tx, changes, at); err != nil {
			return err
		}
		if err := tx.Exec("UPDATE price_change_cursor SET cursor = ?", cursor).Error; err != nil {
			return fmt.Errorf("note the cursor of price changes: %w", err)
		}
		return nil
	})
}

// notePriceChanges stores changes. One that begins where another does becomes one with it.
func notePriceChanges(tx *gorm.DB, changes []snapshot.PriceChange, due time.Time) error {
	for _, c := range changes {
		err := tx.Exec(`INSERT INTO price_changes AS noted (token_id, first_hour, until_hour, due_at)
			VALUES (?, ?, ?, ?) ON CONFLICT (token_id, first_hour) DO UPDATE
			SET until_hour = greatest(noted.until_hour, excluded.until_hour),
			    due_at = greatest(excluded.due_at, noted.due_at + interval '1 microsecond')`,
			c.TokenID, c.From.UTC(), c.Until.UTC(), due.UTC()).Error
		if err != nil {
			return fmt.Errorf("note changes of prices: %w", err)
		}
	}
	return nil
}

// DuePriceChanges implements snapshot.PriceChangeStore.
func (s *Snapshots) DuePriceChanges(ctx context.Context, at time.Time, limit int) (due []snapshot.PriceChange,
	err error) {
	var rows []struct {
		TokenID                     string
		FirstHour, UntilHour, DueAt time.Time
	}
	err = s.db.Gorm(ctx).Raw(`SELECT token_id, first_hour, until_hour, due_at FROM price_changes WHERE due_at <= ?
		ORDER BY due_at, token_id, first_hour LIMIT ?`, at.UTC(), limit).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read changes of prices: %w", err)
	}
	for _, r := range rows {
		due = append(due, snapshot.PriceChange{TokenID: r.TokenID, From: r.FirstHour.UTC(), Until: r.UntilHour.UTC(),
			Due: r.DueAt.UTC()})
	}
	return due, nil
}

// heldHours finds the stretches in which any portfolio holds token @token: each portfolio and asset is one step in the
// index.
const heldHours = `
WITH held AS (
  SELECT c.amount, c.bucket AS since,
         lead(c.bucket) OVER (PARTITION BY p.id, a.id, c.place ORDER BY c.bucket) AS until
  FROM assets a CROSS JOIN portfolios p
  CROSS JOIN LATERAL (
    SELECT place, bucket, amount FROM position_changes
    WHERE portfolio_id = p.id AND asset = a.id AND bucket < @until ORDER BY place, bucket) AS c
  WHERE a.token_id = @token),
stretches AS (
  SELECT unnest(range_agg(tstzrange(since, until)) * tstzmultirange(tstzrange(@from, @until))) AS hours
  FROM held WHERE amount IS NOT NULL)
SELECT lower(hours) AS from, upper(hours) AS until FROM stretches ORDER BY 1`

// HeldHours implements snapshot.PriceChangeStore.
func (s *Snapshots) HeldHours(ctx context.Context, c snapshot.PriceChange) (held []snapshot.PriceChange,
	as []valuation.Position, err error) {
	var names []assetRow
	err = s.db.Gorm(ctx).Raw("SELECT token_id, symbol, decimals, verified FROM assets WHERE token_id = ?", c.TokenID).
		Scan(&names).Error
	if err != nil || len(names) == 0 {
		return nil, nil, wrap("read the names of a token", err)
	}
	for _, n := range names {
		as = append(as, valuation.Position{TokenID: n.TokenID, Symbol: n.Symbol, Decimals: uint8(n.Decimals),
			Verified: n.Verified})
	}
	var rows []struct{ From, Until time.Time }
	err = s.db.Gorm(ctx).Raw(heldHours, map[string]any{"token": c.TokenID, "from": c.From.UTC(),
		"until": c.Until.UTC()}).Scan(&rows).Error
	if err != nil {
		return nil, nil, wrap("read when a token was held", err)
	}
	for _, r := range rows {
		held = append(held, snapshot.PriceChange{TokenID: c.TokenID, From: r.From.UTC(), Until: r.Until.UTC()})
	}
	return held, as, nil
}

type assetRow struct {
	TokenID  string
	Symbol   string
	Decimals int16
	Verified bool
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

const (
	// markMended has the last prices of token @token looked at, in the hours from @from to @until.
	markMended = `
UPDATE hour_prices h SET mended = true FROM assets a
WHERE a.token_id = @token AND h.asset = a.id AND h.bucket >= @from AND h.bucket < @until AND NOT h.mended
  AND h.seq = (SELECT max(seq) FROM hour_prices l WHERE l.bucket = h.bucket AND l.asset = h.asset)`

	// markHolders has up to @limit portfolios after @after look for such prices, if they ever held the token, and
	// returns the last one of all that it looked at.
	markHolders = `
WITH page AS (SELECT id FROM portfolios WHERE id > @after ORDER BY id LIMIT @limit),
holders AS (
  SELECT p.id FROM portfolios p
  WHERE p.id IN (SELECT id FROM page) AND EXISTS (
    SELECT FROM assets a JOIN position_changes c ON c.portfolio_id = p.id AND c.asset = a.id AND c.bucket < @until
    WHERE a.token_id = @token)
  ORDER BY p.id FOR NO KEY UPDATE OF p),
marked AS (
  UPDATE portfolios p SET reprice_from = least(p.reprice_from, @from) FROM holders h WHERE p.id = h.id)
SELECT id FROM page ORDER BY id DESC LIMIT 1`
)

// SpreadPrices implements snapshot.PriceChangeStore.
func (s *Snapshots) SpreadPrices(ctx context.Context, c snapshot.PriceChange) error {
	db := s.db.Gorm(ctx)
	args := map[string]any{"token": c.TokenID, "from": c.From.UTC(), "until": c.Until.UTC(), "after": uuid.Nil,
		"limit": markedPortfolios}
	err := db.Exec("DELETE FROM currency_rates WHERE currency = @token AND bucket >= @from AND bucket < @until",
		args).Error
	if err != nil {
		return wrap("forget changed rates", err)
	}
	if err := db.Exec(markMended, args).Error; err != nil {
		return wrap("mark mended prices", err)
	}
	var any bool
	err = db.Raw(`SELECT EXISTS (SELECT FROM hour_prices h JOIN assets a ON a.id = h.asset
		WHERE a.token_id = @token AND h.mended AND h.bucket >= @from AND h.bucket < @until)`, args).Scan(&any).Error
	if err != nil || !any {
		return wrap("read mended prices", err)
	}
	for {
		var last []uuid.UUID
		if err := db.Raw(markHolders, args).Scan(&last).Error; err != nil || len(last) == 0 {
			return wrap("mark the holders of a token", err)
		}
		args["after"] = last[0]
	}
}

// PriceChangeDone implements snapshot.PriceChangeStore. A change that was noted again meanwhile stays.
func (s *Snapshots) PriceChangeDone(ctx context.Context, c snapshot.PriceChange, next, due time.Time) error {
	return postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		done := tx.Exec("DELETE FROM price_changes WHERE token_id = ? AND first_hour = ? AND due_at = ?", c.TokenID,
			c.From.UTC(), c.Due.UTC())
		if done.Error != nil || done.RowsAffected == 0 || !next.Before(c.Until) {
			return wrap("forget changes of prices", done.Error)
		}
		c.From = next
		return notePriceChanges(tx, []snapshot.PriceChange{c}, due)
	})
}

// DueForReprice implements snapshot.PriceChangeStore.
func (s *Snapshots) DueForReprice(ctx context.Context, shard, shards int, after uuid.UUID, limit int) (
	due []portfolio.Portfolio, err error) {
	var rows []portfolioRow
	err = s.db.Gorm(ctx).Raw(`SELECT * FROM portfolios
		WHERE reprice_from IS NOT NULL AND id > ? AND get_byte(uuid_send(owner_id), 15) % ? = ?
		ORDER BY id LIMIT ?`, after, shards, shard, limit).Scan(&rows).Error
	for _, r := range rows {
		due = append(due, portfolioFromRow(r))
	}
	return due, wrap("read portfolios to reprice", err)
}
