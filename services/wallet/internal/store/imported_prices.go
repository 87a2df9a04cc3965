package store

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/internal/answers"
	"github.com/purserhq/purser/services/internal/erasure"
	"github.com/purserhq/purser/services/internal/requests"
	"github.com/purserhq/purser/services/wallet/internal/price"
	"github.com/purserhq/purser/services/wallet/internal/priceimport"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

// ImportedPrices implements priceimport.Store, price.Feed and price.PastFeed.
type ImportedPrices struct {
	db     *postgres.DB
	before []string // the sources that imported prices are not used before
	bridge time.Duration
	now    func() time.Time
}

// NewImportedPrices returns the imported prices in db. before are the sources that come
// before them, and bridge is for how long after its time a price may be used at past hours.
func NewImportedPrices(db *postgres.DB, before []string, bridge time.Duration,
	now func() time.Time) *ImportedPrices {
	return &ImportedPrices{db: db, before: append([]string{}, before...), bridge: bridge, now: now}
}

// Import implements priceimport.Store. Of two concurrent calls with rows of the same token
// and time the second finds what the first stored.
func (s *ImportedPrices) Import(ctx context.Context, caller uuid.UUID, r requests.Request, rows []priceimport.Row,
	replace bool, failures []priceimport.Failure) (result priceimport.Result, err error) {
	err = postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		result = priceimport.Result{Failures: slices.Clone(failures)}
		if err := erasure.Guard(tx, caller); err != nil {
			return err
		}
		if answered, err := answers.Claim(tx, caller, r, &result); err != nil || answered {
			return err
		}
		var changed []price.HourRange
		err := postgres.Raw(tx, func(conn *pgx.Conn) (err error) {
			changed, err = s.put(ctx, conn, rows, replace, &result)
			return err
		})
		if err != nil {
			return fmt.Errorf("import prices: %w", err)
		}
		if err := notePrices(tx, changed); err != nil {
			return err
		}
		slices.SortFunc(result.Failures, func(a, b priceimport.Failure) int { return cmp.Compare(a.Number, b.Number) })
		body, err := json.Marshal(result)
		if err != nil {
			return fmt.Errorf("encode response: %w", err)
		}
		err = tx.Model(&requestRow{}).Where("owner_id = ? AND request_id = ?", caller, r.ID).
			Update("response", body).Error
		if err != nil {
			return fmt.Errorf("store response: %w", err)
		}
		return nil
	})
	return result, err
}

// put stores rows, and has the past hours that they may change decided anew. It returns these hours.
func (s *ImportedPrices) put(ctx context.Context, conn *pgx.Conn, rows []priceimport.Row, replace bool,
	result *priceimport.Result) ([]price.HourRange, error) {
	n := len(rows)
	if n == 0 {
		return nil, nil
	}
	// In one order, so that concurrent calls don't deadlock.
	sorted := slices.SortedFunc(slices.Values(rows), func(a, b priceimport.Row) int {
		return cmp.Or(cmp.Compare(a.TokenID, b.TokenID), a.At.Compare(b.At))
	})
	tokens, times, values := make([]string, n), make([]time.Time, n), make([]string, n)
	for i, r := range sorted {
		tokens[i], times[i], values[i] = r.TokenID, r.At, r.Price
	}
	const insert = `
		INSERT INTO imported_prices (token_id, price_time, price, imported_at)
		SELECT token, at, price::numeric, $4 FROM unnest($1::text[], $2::timestamptz[], $3::text[])
		  AS r (token, at, price)
		ON CONFLICT (token_id, price_time) `
	onConflict := "DO NOTHING"
	if replace {
		onConflict = `DO UPDATE SET price = excluded.price, imported_at = excluded.imported_at
			WHERE imported_prices.price <> excluded.price`
	}
	stored, err := conn.Query(ctx, insert+onConflict+" RETURNING token_id, price_time", tokens, times, values, s.now())
	if err != nil {
		return nil, err
	}
	type key struct {
		token string
		at    int64
	}
	changed := map[key]bool{}
	var hours []price.HourRange
	var token string
	var at time.Time
	_, err = pgx.ForEachRow(stored, []any{&token, &at}, func() error {
		changed[key{token, at.UnixMicro()}] = true
		hours = append(hours, s.hoursOf(token, at))
		return nil
	})
	if err != nil {
		return nil, err
	}
	same, err := conn.Query(ctx, `
		SELECT r.n FROM unnest($1::text[], $2::timestamptz[], $3::text[]) WITH ORDINALITY AS r (token, at, price, n)
		JOIN imported_prices i ON i.token_id = r.token AND i.price_time = r.at AND i.price = r.price::numeric`,
		tokens, times, values)
	if err != nil {
		return nil, err
	}
	places, err := pgx.CollectRows(same, pgx.RowTo[int64])
	if err != nil {
		return nil, err
	}
	for i, r := range sorted {
		switch {
		case changed[key{r.TokenID, r.At.UnixMicro()}]:
			result.Imported++
		case slices.Contains(places, int64(i+1)):
			result.Unchanged++
		default:
			result.Failures = append(result.Failures, priceimport.Failure{Number: r.Number,
				Reason: priceimport.PriceExists,
				Rule:   "must be the price that is stored for this token and time, or replace be set"})
		}
	}
	return hours, s.decideAnew(ctx, conn, tokens, times)
}

// hoursOf returns the hours that have begun and at which a price of a time may be used.
func (s *ImportedPrices) hoursOf(token string, at time.Time) price.HourRange {
	hour := func(t time.Time) time.Time { return t.UTC().Truncate(time.Hour) }
	last := hour(at.Add(s.bridge))
	if now := hour(s.now()); last.After(now) {
		last = now
	}
	return price.HourRange{TokenID: token, From: hour(at.Add(time.Hour - time.Microsecond)),
		Until: last.Add(time.Hour)}
}

// decideAnew has the stored prices of past hours read again, as far as these imported ones
// may stand in: those that are missing, imported, or of a source that comes later.
func (s *ImportedPrices) decideAnew(ctx context.Context, conn *pgx.Conn, tokens []string, times []time.Time) error {
	_, err := conn.Exec(ctx, `
		UPDATE price_history h SET fetched_at = '1970-01-01 00:00:00+00'
		FROM (
		  SELECT p.token_id, p.hour
		  FROM (SELECT DISTINCT r.token, hour
		        FROM unnest($1::text[], $2::timestamptz[]) AS r (token, at),
		             generate_series(date_trunc('hour', r.at + interval '1 hour' - interval '1 microsecond', 'UTC'),
		                             r.at + $3::interval, interval '1 hour') AS hour) AS near
		  JOIN price_history p ON p.token_id = near.token AND p.hour = near.hour
		  WHERE p.price IS NULL OR p.source <> ALL($4::text[])
		  ORDER BY p.token_id, p.hour FOR UPDATE OF p) locked
		WHERE h.token_id = locked.token_id AND h.hour = locked.hour`, tokens, times, s.bridge, s.before)
	return err
}

// Current implements price.Feed: the newest price of each token.
func (s *ImportedPrices) Current(ctx context.Context, tokens []token.Token) (map[string]price.Price, error) {
	found, err := s.query(ctx, `
		SELECT i.token_id, i.price::text AS price, i.price_time
		FROM unnest(string_to_array(?, ' ')) AS t (id)
		CROSS JOIN LATERAL (
		  SELECT * FROM imported_prices WHERE token_id = t.id AND price_time <= ?
		  ORDER BY price_time DESC LIMIT 1) i`, spaced(tokens), s.now())
	if err != nil {
		return nil, err
	}
	prices := make(map[string]price.Price, len(found))
	for _, f := range found {
		prices[f.id] = f.Price
	}
	return prices, nil
}

// History implements price.PastFeed: the last price of each token in the hour up to each
// full hour.
func (s *ImportedPrices) History(ctx context.Context, tokens []token.Token, from time.Time,
	hours int) (map[string][]price.Price, error) {
	found, err := s.query(ctx, `
		SELECT DISTINCT ON (i.token_id, h.hour) i.token_id, i.price::text AS price, i.price_time
		FROM unnest(string_to_array(?, ' ')) AS t (id)
		JOIN imported_prices i ON i.token_id = t.id AND i.price_time >= ? AND i.price_time < ?
		CROSS JOIN LATERAL (SELECT date_trunc('hour', i.price_time - interval '1 microsecond', 'UTC') AS hour) h
		ORDER BY i.token_id, h.hour, i.price_time DESC`, spaced(tokens), from,
		from.Add(time.Duration(hours)*time.Hour))
	if err != nil {
		return nil, err
	}
	out := make(map[string][]price.Price, len(tokens))
	for _, t := range tokens {
		out[t.ID] = nil
	}
	for _, f := range found {
		out[f.id] = append(out[f.id], f.Price)
	}
	return out, nil
}

// pricedID is a price of a token.
type pricedID struct {
	id string
	price.Price
}

func (s *ImportedPrices) query(ctx context.Context, text string, args ...any) ([]pricedID, error) {
	var rows []priceRow
	if err := s.db.Gorm(ctx).Raw(text, args...).Scan(&rows).Error; err != nil {
		return nil, fmt.Errorf("read imported prices: %w", err)
	}
	out := make([]pricedID, len(rows))
	for i, r := range rows {
		r.Source = priceimport.Source
		p, err := priceFromRow(r)
		if err != nil {
			return nil, err
		}
		out[i] = pricedID{r.TokenID, p}
	}
	return out, nil
}

// spaced joins the ids of tokens, none of which has a space.
func spaced(tokens []token.Token) string {
	ids := make([]string, len(tokens))
	for i, t := range tokens {
		ids[i] = t.ID
	}
	return strings.Join(ids, " ")
}
