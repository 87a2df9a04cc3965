package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// Between the adoption of prices and the storing of what was valued at them, another snapshot may bring better ones,
// or a mistake of a source may be mended. The snapshot then has the prices that it was valued at, under their number,
// and its portfolio is noted for the job that values snapshots anew at mended prices.

// pricesOfHour reads all prices of assets in hours, each with the number of the one that replaced it. $3 and $4 are
// as in pricesOfHours.
const pricesOfHour = `
SELECT h.asset, h.bucket, h.seq, h.price::text, h.source, h.price_time, h.stale, h.reason,
       lead(h.seq) OVER (PARTITION BY h.asset, h.bucket ORDER BY h.seq)
FROM unnest($1::integer[], $2::timestamptz[]) AS w (asset, bucket)
JOIN hour_prices h ON h.bucket = w.bucket AND h.bucket BETWEEN $3 AND $4 AND h.asset = w.asset
ORDER BY h.asset, h.bucket, h.seq`

// beforeReplacement returns the last number at which all of the prices were those of their hours, and true, if there
// was one: prices that were adopted together have one.
func beforeReplacement(ctx context.Context, conn *pgx.Conn, prices []assetPrice) (seq int64, was bool, err error) {
	type span struct{ first, last int64 }
	spans := make(map[assetHour]span, len(prices)) // the numbers at which it was the price of the hour
	wanted := make(map[assetHour]valuation.Price, len(prices))
	var assets []int32
	var buckets []time.Time
	for _, p := range prices {
		if _, ok := wanted[p.assetHour]; ok {
			continue
		}
		wanted[p.assetHour] = p.price
		assets, buckets = append(assets, p.asset), append(buckets, time.Unix(p.hour, 0).UTC())
		if isNone(p.price) { // until there is a row
			spans[p.assetHour] = span{0, latest}
		}
	}
	first, last := ends(buckets)
	rows, err := conn.Query(ctx, pricesOfHour, assets, buckets, first, last)
	if err != nil {
		return 0, false, fmt.Errorf("read replaced prices: %w", err)
	}
	var at assetHour
	var bucket time.Time
	var number int64
	var amount *string
	var priceTime *time.Time
	var next *int64
	var stored valuation.Price
	columns := []any{&at.asset, &bucket, &number, &amount, &stored.Source, &priceTime, &stored.Stale,
		&stored.UnpricedReason, &next}
	_, err = pgx.ForEachRow(rows, columns, func() error {
		at.hour = bucket.Unix()
		if s, ok := spans[at]; ok && s == (span{0, latest}) {
			spans[at] = span{0, number - 1}
		}
		stored.Amount, stored.Time = "", time.Time{}
		if amount != nil {
			stored.Amount, stored.Time = *amount, priceTime.UTC()
		}
		same, err := samePrice(wanted[at], stored)
		if same && next != nil {
			spans[at] = span{number, *next - 1}
		} else if same {
			spans[at] = span{number, latest}
		}
		return err
	})
	if err != nil {
		return 0, false, fmt.Errorf("read replaced prices: %w", err)
	}
	all := span{0, latest}
	for at := range wanted {
		s, ok := spans[at]
		if !ok {
			return 0, false, nil
		}
		all = span{max(all.first, s.first), min(all.last, s.last)}
	}
	return all.last, all.first <= all.last, nil
}

// noteReprice has the job look at the portfolios of stored snapshots, from the first hour of each on.
func noteReprice(ctx context.Context, conn *pgx.Conn, stored map[portfolioHour]*candidate) error {
	from := map[uuid.UUID]int64{}
	for at := range stored {
		if hour, ok := from[at.portfolio]; !ok || at.hour < hour {
			from[at.portfolio] = at.hour
		}
	}
	var ids []uuid.UUID
	var hours []time.Time
	for id, hour := range from {
		ids, hours = append(ids, id), append(hours, time.Unix(hour, 0).UTC())
	}
	_, err := conn.Exec(ctx, `UPDATE portfolios p SET reprice_from = least(p.reprice_from, n.hour)
		FROM unnest($1::uuid[], $2::timestamptz[]) AS n (id, hour) WHERE p.id = n.id`, ids, hours)
	if err != nil {
		return fmt.Errorf("note snapshots at replaced prices: %w", err)
	}
	return nil
}
