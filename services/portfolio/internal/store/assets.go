package store

import (
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
