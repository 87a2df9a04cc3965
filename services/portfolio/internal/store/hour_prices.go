package store

import (
	"context"
	"fmt"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/jackc/pgx/v5"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// Prices are stored once an hour for all portfolios (table hour_prices). They are only
// ever added, under numbers that rise in the order of commits: a snapshot names the last
// number of its time, and so has the prices that it was valued at for good.

// assetHour is an asset in the hour that begins at a Unix time.
type assetHour struct {
	asset int32
	hour  int64
}

// pricesOfHours reads the last price of each asset in its hour, up to the number $3 where
// it is not NULL, and with it the last number of all. One statement, so that no price is
// missing below that number.
const pricesOfHours = `
SELECT w.asset, w.bucket, p.price::text, p.source, p.price_time, p.stale, p.reason,
       (SELECT last FROM hour_price_sequence)
FROM unnest($1::integer[], $2::timestamptz[], $3::bigint[]) AS w (asset, bucket, seq)
LEFT JOIN LATERAL (
  SELECT * FROM hour_prices h
  WHERE h.bucket = w.bucket AND h.asset = w.asset AND h.seq <= coalesce(w.seq, h.seq)
  ORDER BY h.seq DESC LIMIT 1) AS p ON true
UNION ALL
SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, last FROM hour_price_sequence`

// hourPrices are prices by asset and hour, of those that have one or are known to have none.
type hourPrices struct {
	byHour map[assetHour]valuation.Price
	seq    int64 // the last number when they were read
}

// queryer runs a query; *pgx.Conn implements it.
type queryer interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// readHourPrices reads the prices of assets in hours. seqs are the numbers up to which they
// are read, nil for the last ones.
func readHourPrices(ctx context.Context, conn queryer, wanted []assetHour, seqs []int64) (hourPrices, error) {
	ids, buckets, upTo := make([]int32, len(wanted)), make([]time.Time, len(wanted)), make([]*int64, len(wanted))
	for i, w := range wanted {
		ids[i], buckets[i] = w.asset, time.Unix(w.hour, 0).UTC()
		if seqs != nil {
			upTo[i] = &seqs[i]
		}
	}
	found := hourPrices{byHour: make(map[assetHour]valuation.Price, len(wanted))}
	rows, err := conn.Query(ctx, pricesOfHours, ids, buckets, upTo)
	if err != nil {
		return found, fmt.Errorf("read prices: %w", err)
	}
	var asset *int32
	var bucket, priceTime *time.Time
	var amount, source, reason *string
	var stale *bool
	_, err = pgx.ForEachRow(rows, []any{&asset, &bucket, &amount, &source, &priceTime, &stale, &reason, &found.seq},
		func() error {
			if source == nil { // there is none yet
				return nil
			}
			p := valuation.Price{Source: *source, Stale: *stale, UnpricedReason: *reason}
			if amount != nil && priceTime != nil {
				p.Amount, p.Time = *amount, priceTime.UTC()
			}
			found.byHour[assetHour{*asset, bucket.Unix()}] = p
			return nil
		})
	if err != nil {
		return found, fmt.Errorf("read prices: %w", err)
	}
	return found, nil
}

// assetPrice is the price of an asset in an hour.
type assetPrice struct {
	assetHour
	price valuation.Price
}

// storeHourPrices adds those of the prices that differ from the last ones of their hours,
// and returns a number up to which all are the last ones.
func storeHourPrices(ctx context.Context, conn *pgx.Conn, prices []assetPrice) (int64, error) {
	wanted := make([]assetHour, len(prices))
	for i, p := range prices {
		wanted[i] = p.assetHour
	}
	known, err := readHourPrices(ctx, conn, wanted, nil)
	if err != nil {
		return 0, err
	}
	different, err := differing(prices, known)
	if err != nil || len(different) == 0 {
		return known.seq, err
	}
	// Others who add prices wait here; what they added is read again.
	var seq int64
	err = conn.QueryRow(ctx, "UPDATE hour_price_sequence SET last = last + 1 RETURNING last").Scan(&seq)
	if err != nil {
		return 0, fmt.Errorf("lock the prices: %w", err)
	}
	if known, err = readHourPrices(ctx, conn, wanted, nil); err != nil {
		return 0, err
	}
	if different, err = differing(prices, known); err != nil {
		return 0, err
	}
	return seq, addHourPrices(ctx, conn, seq, different)
}

func addHourPrices(ctx context.Context, conn *pgx.Conn, seq int64, prices []assetPrice) error {
	rows := make([][]any, len(prices))
	for i, p := range prices {
		var amount *apd.Decimal
		var at *time.Time
		if p.price.Known() {
			var err error
			if amount, _, err = apd.NewFromString(p.price.Amount); err != nil {
				return fmt.Errorf("price %q: %w", p.price.Amount, err)
			}
			at = &p.price.Time
		}
		rows[i] = []any{time.Unix(p.hour, 0).UTC(), p.asset, seq, at, p.price.Stale, numeric(amount), p.price.Source,
			p.price.UnpricedReason}
	}
	_, err := conn.CopyFrom(ctx, pgx.Identifier{"hour_prices"},
		[]string{"bucket", "asset", "seq", "price_time", "stale", "price", "source", "reason"}, pgx.CopyFromRows(rows))
	if err != nil {
		return fmt.Errorf("copy prices: %w", err)
	}
	return nil
}

// differing returns the prices that are not those that are known, each once.
func differing(prices []assetPrice, known hourPrices) (different []assetPrice, err error) {
	seen := make(map[assetHour]bool, len(prices))
	for _, p := range prices {
		k, ok := known.byHour[p.assetHour]
		same, err := samePrice(p.price, k)
		if err != nil {
			return nil, err
		}
		if ok && same || seen[p.assetHour] {
			continue
		}
		seen[p.assetHour] = true
		different = append(different, p)
	}
	return different, nil
}

// samePrice compares what is stored of prices.
func samePrice(a, b valuation.Price) (bool, error) {
	if a.Known() != b.Known() || a.Source != b.Source || a.Stale != b.Stale || a.UnpricedReason != b.UnpricedReason ||
		a.Known() && !a.Time.Truncate(time.Microsecond).Equal(b.Time.Truncate(time.Microsecond)) {
		return false, nil
	}
	if a.Amount == b.Amount {
		return true, nil
	}
	x, err := parseDecimal(a.Amount)
	if err != nil {
		return false, err
	}
	y, err := parseDecimal(b.Amount)
	return err == nil && x.Cmp(y) == 0, err
}

// storedPrice is what is stored of a position's price: not why the position has no value.
func storedPrice(p valuation.Position) valuation.Price {
	price := p.Price
	if price.Known() {
		price.UnpricedReason = ""
	}
	return price
}

// AdoptPrices implements snapshot.Store.
func (s *Snapshots) AdoptPrices(ctx context.Context, hours []valuation.Assets) error {
	var positions []valuation.Position
	for _, h := range hours {
		positions = append(positions, h.Positions...)
	}
	if len(positions) == 0 {
		return nil
	}
	return postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		return postgres.Raw(tx, func(conn *pgx.Conn) error { return adoptPrices(ctx, conn, hours, positions) })
	})
}

func adoptPrices(ctx context.Context, conn *pgx.Conn, hours []valuation.Assets, all []valuation.Position) error {
	ids, err := knownAssets(ctx, conn, all)
	if err != nil {
		return err
	}
	var wanted []assetHour
	var of []*valuation.Position
	for _, h := range hours {
		for i := range h.Positions {
			if id, ok := ids[assetOf(h.Positions[i])]; ok {
				wanted, of = append(wanted, assetHour{id, hourOf(h.At).Unix()}), append(of, &h.Positions[i])
			}
		}
	}
	known, err := readHourPrices(ctx, conn, wanted, nil)
	if err != nil {
		return err
	}
	for i, p := range of {
		if stored, ok := known.byHour[wanted[i]]; ok && !p.Price.BetterThan(stored) {
			p.Price = stored
		}
	}
	return nil
}

// hourOf returns the start of the hour of a time, UTC.
func hourOf(t time.Time) time.Time { return t.UTC().Truncate(time.Hour) }
