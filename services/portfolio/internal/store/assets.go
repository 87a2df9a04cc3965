package store

import (
	"cmp"
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// asset is a token as positions know it.
type asset struct {
	tokenID, symbol string
	decimals        uint8
	verified        bool
}

func assetOf(p valuation.Position) asset { return asset{p.TokenID, p.Symbol, p.Decimals, p.Verified} }

const (
	findAssets = `
SELECT a.id, a.token_id, a.symbol, a.decimals, a.verified
FROM unnest($1::text[], $2::text[], $3::smallint[], $4::boolean[]) AS w (token_id, symbol, decimals, verified)
JOIN assets a USING (token_id, symbol, decimals, verified)`
	// In one order, so that two transactions that add the same ones don't deadlock.
	insertAssets = `
INSERT INTO assets (token_id, symbol, decimals, verified)
SELECT * FROM unnest($1::text[], $2::text[], $3::smallint[], $4::boolean[]) AS w (token_id, symbol, decimals, verified)
ORDER BY token_id, symbol, decimals, verified
ON CONFLICT DO NOTHING`
)

// line is where amounts are kept: an asset in a place.
type line struct{ asset, place int32 }

func (l line) compare(other line) int {
	return cmp.Or(cmp.Compare(l.asset, other.asset), cmp.Compare(l.place, other.place))
}

const (
	findPlaces = `
SELECT p.id, p.protocol, p.market, p.kind, p.rate_mode, p.collateral
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::boolean[])
     AS w (protocol, market, kind, rate_mode, collateral)
JOIN places p USING (protocol, market, kind, rate_mode, collateral)`
	// In one order, as insertAssets.
	insertPlaces = `
INSERT INTO places (protocol, market, kind, rate_mode, collateral)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::boolean[])
     AS w (protocol, market, kind, rate_mode, collateral)
ORDER BY protocol, market, kind, rate_mode, collateral
ON CONFLICT DO NOTHING`
)

// placeIDs returns the numbers of the places of positions; those without one get one. Without any but wallets it reads
// nothing.
func placeIDs(ctx context.Context, conn *pgx.Conn, positions []valuation.Position) (map[valuation.Place]int32,
	error) {
	ids := map[valuation.Place]int32{{}: 0}
	seen := map[valuation.Place]bool{}
	columns := make([][]string, 4)
	var collateral []bool
	for _, p := range positions {
		if p.Place.InWallet() || seen[p.Place] {
			continue
		}
		seen[p.Place] = true
		for i, text := range []string{p.Place.Protocol, p.Place.Market, string(p.Place.Kind), p.Place.RateMode} {
			columns[i] = append(columns[i], text)
		}
		collateral = append(collateral, p.Place.Collateral)
	}
	args := []any{columns[0], columns[1], columns[2], columns[3], collateral}
	read := func() error {
		rows, err := conn.Query(ctx, findPlaces, args...)
		if err != nil {
			return fmt.Errorf("read places: %w", err)
		}
		var id int32
		var p valuation.Place
		into := []any{&id, &p.Protocol, &p.Market, &p.Kind, &p.RateMode, &p.Collateral}
		_, err = pgx.ForEachRow(rows, into, func() error {
			ids[p] = id
			return nil
		})
		return wrap("read places", err)
	}
	if len(seen) == 0 {
		return ids, nil
	}
	if err := read(); err != nil || len(ids) > len(seen) {
		return ids, err
	}
	if _, err := conn.Exec(ctx, insertPlaces, args...); err != nil {
		return nil, fmt.Errorf("store places: %w", err)
	}
	return ids, read()
}

// lineIDs returns the lines of positions, in their order.
func lineIDs(ctx context.Context, conn *pgx.Conn, positions []valuation.Position) ([]line, error) {
	assets, err := assetIDs(ctx, conn, positions)
	if err != nil {
		return nil, err
	}
	places, err := placeIDs(ctx, conn, positions)
	lines := make([]line, len(positions))
	for i, p := range positions {
		lines[i] = line{assets[assetOf(p)], places[p.Place]}
	}
	return lines, err
}

// columnsOf returns the different assets of positions as the columns of findAssets.
func columnsOf(positions []valuation.Position) (columns []any, n int) {
	var tokens, symbols []string
	var decimals []int16
	var verified []bool
	seen := make(map[asset]bool)
	for _, p := range positions {
		a := assetOf(p)
		if seen[a] {
			continue
		}
		seen[a] = true
		tokens, symbols = append(tokens, a.tokenID), append(symbols, a.symbol)
		decimals, verified = append(decimals, int16(a.decimals)), append(verified, a.verified)
	}
	return []any{tokens, symbols, decimals, verified}, len(seen)
}

func queryAssets(ctx context.Context, conn *pgx.Conn, columns []any) (map[asset]int32, error) {
	rows, err := conn.Query(ctx, findAssets, columns...)
	if err != nil {
		return nil, fmt.Errorf("read assets: %w", err)
	}
	ids := make(map[asset]int32)
	var id int32
	var a asset
	_, err = pgx.ForEachRow(rows, []any{&id, &a.tokenID, &a.symbol, &a.decimals, &a.verified}, func() error {
		ids[a] = id
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read assets: %w", err)
	}
	return ids, nil
}

// assetIDs returns the numbers of the assets of positions; those without one get one.
func assetIDs(ctx context.Context, conn *pgx.Conn, positions []valuation.Position) (map[asset]int32, error) {
	columns, n := columnsOf(positions)
	ids, err := queryAssets(ctx, conn, columns)
	if err != nil || len(ids) == n {
		return ids, err
	}
	if _, err := conn.Exec(ctx, insertAssets, columns...); err != nil {
		return nil, fmt.Errorf("store assets: %w", err)
	}
	return queryAssets(ctx, conn, columns)
}
