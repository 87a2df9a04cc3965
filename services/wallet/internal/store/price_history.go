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
	"github.com/purserhq/purser/services/wallet/internal/pricehistory"
)

// PriceHours implements pricehistory.Store.
func (s *History) PriceHours(ctx context.Context, ids []string, from, until time.Time) ([]pricehistory.Hour, error) {
	var rows []struct {
		TokenID        string
		Hour           time.Time
		Price          *string
		Source         string
		PriceTime      *time.Time
		GoodForSeconds int64
		FetchedAt      time.Time
		Final          bool
	}
	err := s.db.Gorm(ctx).Raw(`
		SELECT token_id, hour, price::text AS price, source, price_time, good_for_seconds, fetched_at,
		       price IS NOT NULL AND fetched_at >= hour + interval '`+priceFinalAfter+`' AS final
		FROM price_history WHERE token_id IN ? AND hour >= ? AND hour < ?`, ids, from, until).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read past prices: %w", err)
	}
	out := make([]pricehistory.Hour, len(rows))
	for i, r := range rows {
		out[i] = pricehistory.Hour{TokenID: r.TokenID, Hour: r.Hour.UTC(), FetchedAt: r.FetchedAt, Final: r.Final}
		if r.Price == nil || r.PriceTime == nil {
			continue
		}
		out[i].Price, err = priceFromRow(priceRow{TokenID: r.TokenID, Price: *r.Price, Source: r.Source,
			PriceTime: *r.PriceTime, GoodForSeconds: r.GoodForSeconds})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// priceFinalAfter is how long after an hour the source may still get a later price
// of it. A price that was fetched sooner is fetched again.
const priceFinalAfter = "15 minutes"

// MissingPrices implements history.Store.
func (s *History) MissingPrices(ctx context.Context, owner uuid.UUID, from, until,
	requestedSince time.Time) (missing []history.TokenHour, err error) {
	err = postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		return postgres.Raw(tx, func(conn *pgx.Conn) error {
			wallets, _, err := readAmounts(ctx, conn, owner, from, until)
			if err != nil {
				return err
			}
			held := history.Past{Wallets: wallets}.HeldTokens(from, until)
			missing, err = missingPrices(ctx, conn, held, from, until, requestedSince)
			return err
		})
	}, postgres.RepeatableRead, postgres.ReadOnly)
	if err != nil {
		return nil, fmt.Errorf("read missing prices: %w", err)
	}
	return missing, nil
}

// missingPrices returns those of the tokens, by the hours at which they are held, that have no final price.
func missingPrices(ctx context.Context, conn *pgx.Conn, held map[string][]bool, from, until,
	requestedSince time.Time) ([]history.TokenHour, error) {
	if len(held) == 0 {
		return nil, nil
	}
	ids := slices.Sorted(maps.Keys(held))
	rows, err := conn.Query(ctx, `
		SELECT token_id, hour FROM price_history
		WHERE token_id = ANY($1::text[]) AND hour >= $2 AND hour < $3
		  AND NOT (fetched_at < $4 AND (price IS NULL OR fetched_at < hour + interval '`+priceFinalAfter+`'))`,
		ids, from, until, requestedSince)
	if err != nil {
		return nil, err
	}
	var id string
	var hour time.Time
	_, err = pgx.ForEachRow(rows, []any{&id, &hour}, func() error {
		held[id][int(hour.Sub(from)/time.Hour)] = false
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if !slices.Contains(held[id], true) {
			delete(held, id)
		}
	}
	if len(held) == 0 {
		return nil, nil
	}
	ids = slices.Sorted(maps.Keys(held))
	tokens, err := pastTokens(ctx, conn, ids)
	if err != nil {
		return nil, err
	}
	// Of an asset of a position that is no known token nobody is asked for a price.
	ids = slices.DeleteFunc(ids, func(id string) bool { return tokens[id].ID == "" })
	var missing []history.TokenHour
	for i := range int(until.Sub(from) / time.Hour) {
		for _, id := range ids {
			if held[id][i] {
				missing = append(missing, history.TokenHour{Token: tokens[id],
					Hour: from.UTC().Add(time.Duration(i) * time.Hour)})
			}
		}
	}
	return missing, nil
}

// SavePrices implements history.Store with one statement. Rows are written in one
// order, so that concurrent calls don't deadlock.
func (s *History) SavePrices(ctx context.Context, prices []history.HourPrice, fetchedAt time.Time) error {
	n := len(prices)
	if n == 0 {
		return nil
	}
	hours := make([]time.Time, n)
	for i, p := range prices {
		hours[i] = p.Hour
	}
	s.partitions.Ensure(ctx, hours, "price_history")
	sorted := slices.SortedFunc(slices.Values(prices), func(a, b history.HourPrice) int {
		return cmp.Or(cmp.Compare(a.Token.ID, b.Token.ID), a.Hour.Compare(b.Hour))
	})
	tokens, hours, sources := make([]string, n), make([]time.Time, n), make([]string, n)
	values, times, goodFor := make([]*string, n), make([]*time.Time, n), make([]int64, n)
	for i, p := range sorted {
		tokens[i], hours[i] = p.Token.ID, p.Hour
		if p.Value != "" {
			sources[i], values[i], times[i] = p.Source, &p.Value, &p.At
			goodFor[i] = int64(p.GoodFor / time.Second)
		}
	}
	first, last := slices.MinFunc(hours, time.Time.Compare), slices.MaxFunc(hours, time.Time.Compare)
	return postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		var changed []price.HourRange
		err := postgres.Raw(tx, func(conn *pgx.Conn) error {
			rows, err := conn.Query(ctx, upsertPriceHistory, fetchedAt, tokens, hours, values, sources, times, goodFor,
				first, last)
			if err != nil {
				return err
			}
			var r price.HourRange
			changed = nil // the transaction may run more than once
			_, err = pgx.ForEachRow(rows, []any{&r.TokenID, &r.From}, func() error {
				r.Until = r.From.Add(time.Hour)
				changed = append(changed, r)
				return nil
			})
			return err
		})
		if err != nil {
			return fmt.Errorf("store past prices: %w", err)
		}
		return notePrices(tx, changed)
	})
}

// upsertPriceHistory returns the hours that had another price before, or were known to have none. $8 and $9 are the
// first and the last of the hours. It locks what is there before it compares, so that no change is missed.
const upsertPriceHistory = `
	WITH given AS MATERIALIZED (
	  SELECT * FROM unnest($2::text[], $3::timestamptz[], $4::text[], $5::text[], $6::timestamptz[], $7::bigint[])
	    AS p (token, hour, price, source, at, good_for)),
	before AS MATERIALIZED (
	  SELECT h.token_id, h.hour, h.price FROM given g
	  JOIN price_history h ON h.token_id = g.token AND h.hour = g.hour AND h.hour BETWEEN $8 AND $9
	  ORDER BY h.token_id, h.hour FOR UPDATE OF h),
	stored AS (
	INSERT INTO price_history (token_id, hour, price, source, price_time, good_for_seconds, fetched_at)
	SELECT g.token, g.hour, g.price::numeric, g.source, g.at, g.good_for, $1
	FROM given g LEFT JOIN before b ON b.token_id = g.token AND b.hour = g.hour
	ORDER BY g.token, g.hour
	ON CONFLICT (token_id, hour) DO UPDATE
	SET fetched_at = excluded.fetched_at,
	    price = coalesce(excluded.price, price_history.price),
	    source = CASE WHEN excluded.price IS NULL THEN price_history.source ELSE excluded.source END,
	    price_time = coalesce(excluded.price_time, price_history.price_time),
	    good_for_seconds = CASE WHEN excluded.price IS NULL THEN price_history.good_for_seconds
	                            ELSE excluded.good_for_seconds END
	RETURNING token_id, hour, price)
	SELECT s.token_id, s.hour FROM stored s JOIN before b USING (token_id, hour)
	WHERE s.price IS DISTINCT FROM b.price`
