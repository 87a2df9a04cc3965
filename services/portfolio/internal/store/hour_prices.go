package store

import (
	"context"
	"fmt"
	"math"
	"slices"
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

// latest is the number up to which all prices are read.
const latest = math.MaxInt64

// pricesOfHours reads the last price of each asset in its hour, up to a number, and with it
// the last number of all. One statement, so that no price is missing below that number. $4
// and $5 are the first and the last of the hours: the planner derives from no join which
// partitions they are in.
const pricesOfHours = `
SELECT w.asset, w.bucket, w.seq, p.price::text, p.source, p.price_time, p.stale, p.reason,
       (SELECT last FROM hour_price_sequence)
FROM unnest($1::integer[], $2::timestamptz[], $3::bigint[]) AS w (asset, bucket, seq)
CROSS JOIN LATERAL (
  SELECT * FROM hour_prices h
  WHERE h.bucket = w.bucket AND h.bucket BETWEEN $4 AND $5 AND h.asset = w.asset AND h.seq <= w.seq
  ORDER BY h.seq DESC LIMIT 1) AS p
UNION ALL
SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, last FROM hour_price_sequence`

// priceKey names the last price of an asset in an hour up to a number.
type priceKey struct {
	assetHour
	seq int64
}

// hourPrices are prices of hours, of assets that have one or are known to have none.
type hourPrices struct {
	of  map[priceKey]valuation.Price
	seq int64 // the last number when they were read
}

// readHourPrices reads the prices that are wanted.
func readHourPrices(ctx context.Context, conn *pgx.Conn, wanted map[priceKey]bool) (hourPrices, error) {
	var ids []int32
	var buckets []time.Time
	var seqs []int64
	for w := range wanted {
		ids, buckets = append(ids, w.asset), append(buckets, time.Unix(w.hour, 0).UTC())
		seqs = append(seqs, w.seq)
	}
	first, last := ends(buckets)
	found := hourPrices{of: make(map[priceKey]valuation.Price, len(wanted))}
	rows, err := conn.Query(ctx, pricesOfHours, ids, buckets, seqs, first, last)
	if err != nil {
		return found, fmt.Errorf("read prices: %w", err)
	}
	var asset *int32
	var bucket, priceTime *time.Time
	var upTo *int64
	var amount, source, reason *string
	var stale *bool
	columns := []any{&asset, &bucket, &upTo, &amount, &source, &priceTime, &stale, &reason, &found.seq}
	_, err = pgx.ForEachRow(rows, columns, func() error {
		if asset == nil { // the row of the sequence
			return nil
		}
		p := valuation.Price{Source: *source, Stale: *stale, UnpricedReason: *reason}
		if amount != nil {
			p.Amount = *amount
		}
		if priceTime != nil {
			p.Time = priceTime.UTC()
		}
		found.of[priceKey{assetHour{*asset, bucket.Unix()}, *upTo}] = p
		return nil
	})
	if err != nil {
		return found, fmt.Errorf("read prices: %w", err)
	}
	return found, nil
}

// ends returns the first and the last of some times; zero times if there is none.
func ends(times []time.Time) (first, last time.Time) {
	if len(times) == 0 {
		return first, last
	}
	return slices.MinFunc(times, time.Time.Compare), slices.MaxFunc(times, time.Time.Compare)
}

// assetPrice is the price of an asset in an hour.
type assetPrice struct {
	assetHour
	price valuation.Price
}

// storeHourPrices adds those of the prices that differ from the last ones of their hours, and returns a number up to
// which all are the last ones. A price that another one has replaced since it was adopted isn't brought back: the
// number is then that before the first replacement, and the hours are to be valued anew.
func storeHourPrices(ctx context.Context, conn *pgx.Conn, prices []assetPrice) (seq int64, replaced bool, err error) {
	wanted := make(map[priceKey]bool)
	for _, p := range prices {
		wanted[priceKey{p.assetHour, latest}] = true
	}
	known, err := readHourPrices(ctx, conn, wanted)
	if err != nil {
		return 0, false, err
	}
	different, err := differing(prices, known)
	if err != nil || len(different) == 0 {
		return known.seq, false, err
	}
	if seq, err = lockPrices(ctx, conn); err != nil {
		return 0, false, err
	}
	// Others may have added some in the meantime.
	if known, err = readHourPrices(ctx, conn, wanted); err != nil {
		return 0, false, err
	}
	if different, err = differing(prices, known); err != nil || len(different) == 0 {
		return seq, false, err
	}
	if slices.ContainsFunc(different, func(p assetPrice) bool {
		_, ok := known.of[priceKey{p.assetHour, latest}]
		return ok
	}) {
		before, replaced, err := beforeReplacement(ctx, conn, prices)
		if err != nil || replaced {
			return before, replaced, err
		}
	}
	return seq, false, addHourPrices(ctx, conn, seq, different)
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
	chosen := make(map[assetHour]valuation.Price, len(prices))
	for _, p := range prices {
		if first, ok := chosen[p.assetHour]; ok {
			same, err := samePrice(p.price, first)
			if err != nil {
				return nil, err
			}
			if !same {
				return nil, fmt.Errorf("asset %d has two prices in one batch: AdoptPrices was not called", p.asset)
			}
			continue
		}
		chosen[p.assetHour] = p.price
		k, ok := known.of[priceKey{p.assetHour, latest}]
		same, err := samePrice(p.price, k)
		if err != nil {
			return nil, err
		}
		if ok && !same || !ok && !isNone(p.price) {
			different = append(different, p)
		}
	}
	return different, nil
}

// isNone reports whether there is just no price, as of most tokens that nobody verified: no
// row says so.
func isNone(p valuation.Price) bool {
	return !p.Known() && (p.UnpricedReason == "" || p.UnpricedReason == valuation.ReasonNoPrice)
}

// samePrice compares what is stored of prices.
func samePrice(a, b valuation.Price) (bool, error) {
	if a.Known() != b.Known() || a.Source != b.Source || a.Stale != b.Stale || a.UnpricedReason != b.UnpricedReason ||
		a.Known() && !a.Time.Truncate(time.Microsecond).Equal(b.Time.Truncate(time.Microsecond)) {
		return false, nil
	}
	return sameAmount(a, b)
}

// sameAmount reports whether two prices are the same number, or both unknown.
func sameAmount(a, b valuation.Price) (bool, error) {
	if a.Amount == b.Amount {
		return true, nil
	}
	if a.Known() != b.Known() {
		return false, nil
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

// AdoptPrices implements snapshot.Store. It stores the prices that are new, in a transaction
// of its own, so that callers at the same time agree on one.
func (s *Snapshots) AdoptPrices(ctx context.Context, hours []valuation.Assets) error {
	return s.adoptPrices(ctx, hours, valuation.Price.BetterThan)
}

// MendPrices implements snapshot.Store. Other snapshots keep the prices that they were valued at.
func (s *Snapshots) MendPrices(ctx context.Context, hours []valuation.Assets) error {
	return s.adoptPrices(ctx, hours, func(offered, stored valuation.Price) bool {
		if offered.BetterThan(stored) {
			return true
		}
		same, err := sameAmount(offered, stored)
		return err == nil && !same && offered.Known() && !stored.BetterThan(offered)
	})
}

// adoptPrices adopts the prices that replace the stored ones of their hours, as replaces says.
func (s *Snapshots) adoptPrices(ctx context.Context, hours []valuation.Assets,
	replaces func(offered, stored valuation.Price) bool) error {
	var positions []valuation.Position
	for _, h := range hours {
		positions = append(positions, h.Positions...)
	}
	if len(positions) == 0 {
		return nil
	}
	s.ensurePast(ctx, hours)
	return postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		return postgres.Raw(tx, func(conn *pgx.Conn) error {
			ids, err := assetIDs(ctx, conn, positions)
			if err != nil {
				return err
			}
			return adoptPrices(ctx, conn, hours, ids, replaces)
		})
	})
}

func adoptPrices(ctx context.Context, conn *pgx.Conn, hours []valuation.Assets, ids map[asset]int32,
	replaces func(offered, stored valuation.Price) bool) error {
	offered := make(map[assetHour]valuation.Price)
	var assets []int32 // of the positions of all hours
	for _, h := range hours {
		hour := hourOf(h.At).Unix()
		for _, p := range h.Positions {
			at := assetHour{ids[assetOf(p)], hour}
			assets = append(assets, at.asset)
			if best, ok := offered[at]; !ok || p.Price.BetterThan(best) {
				offered[at] = p.Price
			}
		}
	}
	known, better, err := betterPrices(ctx, conn, offered, replaces)
	if err != nil {
		return err
	}
	if len(better) > 0 {
		seq, err := lockPrices(ctx, conn)
		if err != nil {
			return err
		}
		// Others may have added some in the meantime.
		if known, better, err = betterPrices(ctx, conn, offered, replaces); err != nil {
			return err
		}
		if err := addHourPrices(ctx, conn, seq, better); err != nil {
			return err
		}
	}
	for _, p := range better {
		known.of[priceKey{p.assetHour, latest}] = p.price
	}
	for _, h := range hours {
		hour := hourOf(h.At).Unix()
		for i := range h.Positions {
			h.Positions[i].Price = known.of[priceKey{assetHour{assets[0], hour}, latest}]
			assets = assets[1:]
		}
	}
	return nil
}

// betterPrices returns the prices that are stored, and those that replace them or are the first.
func betterPrices(ctx context.Context, conn *pgx.Conn, offered map[assetHour]valuation.Price,
	replaces func(offered, stored valuation.Price) bool) (known hourPrices, better []assetPrice, err error) {
	wanted := make(map[priceKey]bool, len(offered))
	for at := range offered {
		wanted[priceKey{at, latest}] = true
	}
	if known, err = readHourPrices(ctx, conn, wanted); err != nil {
		return known, nil, err
	}
	for at, price := range offered {
		stored, ok := known.of[priceKey{at, latest}]
		if !ok && isNone(price) {
			known.of[priceKey{at, latest}] = price
		} else if !ok || replaces(price, stored) {
			better = append(better, assetPrice{at, price})
		}
	}
	return known, better, nil
}

// lockPrices returns the number of the prices that the transaction adds. Others who add
// prices wait for its end.
func lockPrices(ctx context.Context, conn *pgx.Conn) (seq int64, err error) {
	err = conn.QueryRow(ctx, "UPDATE hour_price_sequence SET last = last + 1 RETURNING last").Scan(&seq)
	if err != nil {
		return 0, fmt.Errorf("lock the prices: %w", err)
	}
	return seq, nil
}

// hourOf returns the start of the hour of a time, UTC.
func hourOf(t time.Time) time.Time { return t.UTC().Truncate(time.Hour) }
