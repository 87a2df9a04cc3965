package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/wallet/internal/caip"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

// Tokens implements token.Store.
type Tokens struct {
	db     *postgres.DB
	caches *Caches
}

// NewTokens returns the tokens in db.
func NewTokens(db *postgres.DB, c *Caches) *Tokens { return &Tokens{db: db, caches: c} }

// ByID implements token.Store. The absence of a token is not cached, since callers
// may ask for any id.
func (s *Tokens) ByID(ctx context.Context, id string) (token.Token, error) {
	row, err := s.caches.tokens.Get(ctx, id, func(ctx context.Context) (row tokenRow, err error) {
		err = s.db.Gorm(ctx).Where("id = ?", id).Take(&row).Error
		return row, err
	})
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return token.Token{}, errs.Unlisted("token", id, "see TokenService.ListTokens")
	}
	if err != nil {
		return token.Token{}, fmt.Errorf("read token: %w", err)
	}
	return tokenFromRow(row)
}

// errUnknownToken fails a load with an unknown id, so that nothing of it is cached.
var errUnknownToken = errors.New("store: unknown token id")

// byIDs returns the tokens with these ids that are known.
func (s *Tokens) byIDs(ctx context.Context, ids []string) (map[string]token.Token, error) {
	rows, err := s.caches.tokens.GetMany(ctx, ids,
		func(ctx context.Context, missing []string) (map[string]tokenRow, error) {
			rows, err := s.readRows(ctx, missing)
			if err == nil && len(rows) < len(missing) {
				err = errUnknownToken
			}
			return rows, err
		})
	if errors.Is(err, errUnknownToken) {
		rows, err = s.readRows(ctx, ids)
	}
	if err != nil {
		return nil, err
	}
	tokens := make(map[string]token.Token, len(rows))
	for id, r := range rows {
		if tokens[id], err = tokenFromRow(r); err != nil {
			return nil, err
		}
	}
	return tokens, nil
}

func (s *Tokens) readRows(ctx context.Context, ids []string) (map[string]tokenRow, error) {
	var rows []tokenRow
	if err := s.db.Gorm(ctx).Where("id IN ?", ids).Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("read tokens: %w", err)
	}
	out := make(map[string]tokenRow, len(rows))
	for _, r := range rows {
		out[r.ID] = r
	}
	return out, nil
}

// List implements token.Store.
func (s *Tokens) List(ctx context.Context, chain uint64, after string, limit int) ([]token.Token, error) {
	q := s.db.Gorm(ctx).Where("id > ? AND NOT discovered", after).Order("id").Limit(limit)
	if chain != 0 {
		q = q.Where("chain = ?", caip.ChainID(chain))
	}
	var rows []tokenRow
	if err := q.Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	tokens := make([]token.Token, len(rows))
	for i, r := range rows {
		var err error
		if tokens[i], err = tokenFromRow(r); err != nil {
			return nil, err
		}
	}
	return tokens, nil
}

// Put implements token.Store. The decimals of a stored token don't change: they
// are fixed on chain, and an error in a list must not multiply every value by a
// power of ten. PutChecked corrects them.
func (s *Tokens) Put(ctx context.Context, tokens []token.Token) error {
	return s.change(ctx, func(conn *pgx.Conn) ([]string, error) { return put(ctx, conn, tokens) })
}

// PutList implements token.Store.
func (s *Tokens) PutList(ctx context.Context, tokens []token.Token) error {
	return s.change(ctx, func(conn *pgx.Conn) ([]string, error) {
		changed, err := put(ctx, conn, tokens)
		if err != nil {
			return nil, err
		}
		listed := make([]string, len(tokens))
		for i, t := range tokens {
			listed[i] = t.ID
		}
		rows, err := conn.Query(ctx, `
			WITH gone AS (SELECT id FROM tokens WHERE verified AND id <> ALL($1) ORDER BY id FOR UPDATE)
			UPDATE tokens SET verified = false FROM gone WHERE tokens.id = gone.id RETURNING tokens.id`, listed)
		if err != nil {
			return nil, err
		}
		gone, err := pgx.CollectRows(rows, pgx.RowTo[string])
		return append(changed, gone...), err
	})
}

// PutChecked implements token.CheckStore.
func (s *Tokens) PutChecked(ctx context.Context, tokens []token.Token) error {
	return s.change(ctx, func(conn *pgx.Conn) ([]string, error) {
		n := len(tokens)
		ids, decimals, checked, without := make([]string, n), make([]int16, n), make([]bool, n), make([]bool, n)
		for i, t := range tokens {
			ids[i], decimals[i], checked[i], without[i] = t.ID, int16(t.Decimals), t.Checked, t.WithoutCode
		}
		rows, err := conn.Query(ctx, `
			WITH checked AS (
			  SELECT * FROM unnest($1::text[], $2::smallint[], $3::boolean[], $4::boolean[])
			    AS c (id, decimals, checked, without)),
			locked AS (SELECT id FROM tokens WHERE id = ANY($1) ORDER BY id FOR UPDATE)
			UPDATE tokens t SET decimals = c.decimals, decimals_checked = c.checked, without_code = c.without
			FROM checked c JOIN locked l ON l.id = c.id
			WHERE t.id = c.id AND (t.decimals, t.decimals_checked, t.without_code)
			      IS DISTINCT FROM (c.decimals, c.checked, c.without)
			RETURNING t.id`, ids, decimals, checked, without)
		if err != nil {
			return nil, err
		}
		return pgx.CollectRows(rows, pgx.RowTo[string])
	})
}

// change runs fn in a transaction, and invalidates the tokens whose ids it returns.
func (s *Tokens) change(ctx context.Context, fn func(*pgx.Conn) ([]string, error)) error {
	err := cache.Change(ctx, s.db, func(tx *gorm.DB) ([]cache.Invalidation, error) {
		var changed []string
		err := postgres.Raw(tx, func(conn *pgx.Conn) (err error) {
			changed, err = fn(conn)
			return err
		})
		if err != nil || len(changed) == 0 {
			return nil, err
		}
		return []cache.Invalidation{{Cache: s.caches.tokens, Keys: changed},
			{Cache: s.caches.generations, Keys: []string{tokensGeneration}}}, nil
	})
	if err != nil {
		return fmt.Errorf("store tokens: %w", err)
	}
	return nil
}

// put stores tokens and returns the ids of those that are new or have changed: a
// restart with the same list invalidates nothing. The rows are written in one
// order, so that replicas that start together don't deadlock.
func put(ctx context.Context, conn *pgx.Conn, tokens []token.Token) ([]string, error) {
	n := len(tokens)
	ids, chains, contracts := make([]string, n), make([]string, n), make([]string, n)
	symbols, names := make([]string, n), make([]string, n)
	decimals, verified := make([]int16, n), make([]bool, n)
	for i, t := range tokens {
		r := tokenToRow(t)
		ids[i], chains[i], contracts[i], symbols[i], names[i] = r.ID, r.Chain, r.Contract, r.Symbol, r.Name
		decimals[i], verified[i] = r.Decimals, r.Verified
	}
	rows, err := conn.Query(ctx, `
		INSERT INTO tokens (id, chain, contract, symbol, name, decimals, verified)
		SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::smallint[], $7::boolean[])
		  AS t (id, chain, contract, symbol, name, decimals, verified)
		ORDER BY id
		ON CONFLICT (id) DO UPDATE
		SET symbol = excluded.symbol, name = excluded.name, verified = excluded.verified,
		    discovered = false, spam = false
		WHERE (tokens.symbol, tokens.name, tokens.verified, tokens.discovered)
		      IS DISTINCT FROM (excluded.symbol, excluded.name, excluded.verified, false)
		RETURNING id`,
		ids, chains, contracts, symbols, names, decimals, verified)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
