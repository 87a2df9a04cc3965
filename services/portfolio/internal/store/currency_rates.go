package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/portfolio/internal/currency"
)

// CurrencyRates implements currency.Store. It is safe for concurrent use.
type CurrencyRates struct {
	db  *postgres.DB
	now func() time.Time
}

// NewCurrencyRates returns the store.
func NewCurrencyRates(db *postgres.DB, now func() time.Time) *CurrencyRates {
	return &CurrencyRates{db: db, now: now}
}

const missingRates = `
SELECT min(hour), max(hour)
FROM generate_series($2::timestamptz, $3::timestamptz - interval '1 hour', interval '1 hour') AS hour
LEFT JOIN currency_rates r ON r.currency = $1 AND r.bucket = hour
WHERE r.bucket IS NULL OR r.rate IS NULL AND r.read_at < $4`

// MissingRates implements currency.Store.
func (c *CurrencyRates) MissingRates(ctx context.Context, code string, from, until,
	since time.Time) (first, last time.Time, err error) {
	var lowest, highest sql.NullTime
	err = c.db.SQL().QueryRowContext(ctx, missingRates, code, from, until, since).Scan(&lowest, &highest)
	if err != nil {
		return first, last, fmt.Errorf("find missing rates: %w", err)
	}
	if !lowest.Valid {
		return first, last, nil
	}
	return lowest.Time.UTC(), highest.Time.UTC(), nil
}

const saveRates = `
INSERT INTO currency_rates (currency, bucket, rate, source, rate_time, stale, reason, read_at)
SELECT $1, bucket, nullif(rate, '')::numeric, source, rate_time, stale, reason, $2
FROM unnest($3::timestamptz[], $4::text[], $5::text[], $6::timestamptz[], $7::boolean[], $8::text[])
     AS given (bucket, rate, source, rate_time, stale, reason)
ORDER BY bucket
ON CONFLICT (currency, bucket) DO UPDATE
SET rate = excluded.rate, source = excluded.source, rate_time = excluded.rate_time, stale = excluded.stale,
    reason = excluded.reason, read_at = excluded.read_at
WHERE currency_rates.rate IS NULL`

// SaveRates implements currency.Store. All rates are of one currency.
func (c *CurrencyRates) SaveRates(ctx context.Context, rates []currency.HourRate) error {
	if len(rates) == 0 {
		return nil
	}
	n := len(rates)
	hours, times := make([]time.Time, n), make([]*time.Time, n)
	prices, sources, reasons, stale := make([]string, n), make([]string, n), make([]string, n), make([]bool, n)
	for i, r := range rates {
		hours[i], prices[i], sources[i], reasons[i], stale[i] = r.Hour, r.Price, r.Source, r.Reason, r.Stale
		if !r.Time.IsZero() {
			times[i] = &r.Time
		}
	}
	_, err := c.db.SQL().ExecContext(ctx, saveRates, rates[0].Currency, c.now().UTC(), hours, prices, sources, times,
		stale, reasons)
	if err != nil {
		return fmt.Errorf("save rates: %w", err)
	}
	return nil
}

// Rates implements currency.Store.
func (c *CurrencyRates) Rates(ctx context.Context, code string, hours []time.Time) (rates []currency.Rate, err error) {
	rows, err := c.db.SQL().QueryContext(ctx, `
SELECT coalesce(r.rate::text, ''), coalesce(r.source, ''), r.rate_time, coalesce(r.stale, false),
       coalesce(r.reason, '')
FROM unnest($2::timestamptz[]) WITH ORDINALITY AS asked (hour, n)
LEFT JOIN currency_rates r ON r.currency = $1 AND r.bucket = asked.hour
ORDER BY asked.n`, code, hours)
	if err != nil {
		return nil, fmt.Errorf("read rates: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		r := currency.Rate{Currency: code}
		var at sql.NullTime
		if err := rows.Scan(&r.Price, &r.Source, &at, &r.Stale, &r.Reason); err != nil {
			return nil, fmt.Errorf("read rates: %w", err)
		}
		if at.Valid {
			r.Time = at.Time.UTC()
		}
		rates = append(rates, r)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read rates: %w", err)
	}
	return rates, nil
}
