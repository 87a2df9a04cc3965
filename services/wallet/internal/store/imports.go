package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/internal/erasure"
	"github.com/purserhq/purser/services/internal/requests"
	"github.com/purserhq/purser/services/wallet/internal/importing"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

var _ importing.Store = (*Wallets)(nil)

// ImportBalances implements importing.Store.
func (s *Wallets) ImportBalances(ctx context.Context, owner, id uuid.UUID, rows []importing.Balance,
	failures []importing.Failure, r *requests.Request) (importing.Result, error) {
	return s.doImport(ctx, owner, id, r, failures, func(conn *pgx.Conn, result *importing.Result) (touched, error) {
		keys := make([]rowKey, len(rows))
		for i, b := range rows {
			keys[i] = rowKey{b.Row, b.Token, b.At}
		}
		refused, err := refusals(ctx, conn, id, keys)
		if err != nil {
			return touched{}, err
		}
		result.Failures = append(result.Failures, values(refused)...)
		rows = slices.DeleteFunc(slices.Clone(rows), func(b importing.Balance) bool { return refused[b.Row] != nil })
		return importBalances(ctx, conn, id, rows, result)
	})
}

// ImportTransactions implements importing.Store.
func (s *Wallets) ImportTransactions(ctx context.Context, owner, id uuid.UUID, rows []importing.Transaction,
	failures []importing.Failure, r *requests.Request) (importing.Result, error) {
	return s.doImport(ctx, owner, id, r, failures, func(conn *pgx.Conn, result *importing.Result) (touched, error) {
		keys := make([]rowKey, len(rows))
		for i, t := range rows {
			keys[i] = rowKey{t.Row, t.Token, t.At}
		}
		refused, err := refusals(ctx, conn, id, keys)
		if err != nil {
			return touched{}, err
		}
		result.Failures = append(result.Failures, values(refused)...)
		rows = slices.DeleteFunc(slices.Clone(rows),
			func(t importing.Transaction) bool { return refused[t.Row] != nil })
		return importTransactions(ctx, conn, id, rows, result)
	})
}

// doImport runs an import in one transaction, in which nobody else changes what is stored of the wallet, and makes
// what follows from it: the balances, the adjustments, the change in the feed.
func (s *Wallets) doImport(ctx context.Context, owner, id uuid.UUID, r *requests.Request, failures []importing.Failure,
	fn func(*pgx.Conn, *importing.Result) (touched, error)) (result importing.Result, err error) {
	err = once(ctx, s, owner, r, &result, func(tx *gorm.DB) error {
		if r == nil { // or once has asked
			if err := erasure.Guard(tx, owner); err != nil {
				return err
			}
		}
		if _, err := locked(tx, owner, id); err != nil {
			return err
		}
		result = importing.Result{Failures: slices.Clone(failures)}
		err := postgres.Raw(tx, func(conn *pgx.Conn) error {
			t, err := fn(conn, &result)
			if err == nil {
				err = settle(ctx, conn, t)
			}
			return err
		})
		if err != nil {
			return importError(err)
		}
		slices.SortStableFunc(result.Failures, func(a, b importing.Failure) int { return cmp.Compare(a.Row, b.Row) })
		if result.Stored+result.Replaced == 0 {
			return nil
		}
		return note(tx, wallet.BalancesChanged, owner, id)
	})
	if err != nil {
		return importing.Result{}, err
	}
	return result, nil
}

// importError leaves the errors that are the caller's as they are.
func importError(err error) error {
	if errs.As(err) != nil {
		return err
	}
	return fmt.Errorf("store import: %w", err)
}

// rowKey is what decides whether a row may be stored.
type rowKey struct {
	row   int
	token string
	at    time.Time
}

// refusals returns why rows can't be stored, by their numbers.
func refusals(ctx context.Context, conn *pgx.Conn, id uuid.UUID, keys []rowKey) (map[int]*importing.Failure, error) {
	var tokens []string
	for _, k := range keys {
		tokens = append(tokens, k.token)
	}
	slices.Sort(tokens)
	rows, err := conn.Query(ctx, `
		SELECT k.id, `+chainSince("$1", "k.id")+` FROM tokens k WHERE k.id = ANY($2)`, id, slices.Compact(tokens))
	if err != nil {
		return nil, err
	}
	known := map[string]importing.Known{}
	for rows.Next() {
		var token string
		var since *time.Time
		if err := rows.Scan(&token, &since); err != nil {
			return nil, err
		}
		k := importing.Known{Token: true}
		if since != nil {
			k.Since = *since
		}
		known[token] = k
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	refused := map[int]*importing.Failure{}
	for _, k := range keys {
		if f := known[k.token].Refuse(k.row, k.token, k.at); f != nil {
			refused[k.row] = f
		}
	}
	return refused, nil
}

// chainSince is the expression for the first time that the chain tells of a wallet's token, NULL if it never did: the
// first sync that read its balance, or its first movement.
func chainSince(wallet, token string) string {
	return `least(
		(SELECT coalesce(first_block_time, block_time) FROM balances
		 WHERE wallet_id = ` + wallet + ` AND token_id = ` + token + ` AND block_number >= 0),
		(SELECT block_time FROM transactions
		 WHERE wallet_id = ` + wallet + ` AND token_id = ` + token + ` AND block_number >= 0
		 ORDER BY block_number LIMIT 1))`
}

func values(m map[int]*importing.Failure) []importing.Failure {
	out := make([]importing.Failure, 0, len(m))
	for _, f := range m {
		out = append(out, *f)
	}
	return out
}

// importBalances stores balances as changes of the wallet's.
func importBalances(ctx context.Context, conn *pgx.Conn, id uuid.UUID, rows []importing.Balance,
	result *importing.Result) (t touched, err error) {
	n := len(rows)
	tokens, positions := make([]string, n), make([]int64, n)
	times, amounts := make([]time.Time, n), make([]string, n)
	for i, b := range rows {
		tokens[i], positions[i], times[i], amounts[i] = b.Token, importing.Position(b.At), b.At, b.Amount.Dec()
	}
	stored, err := conn.Query(ctx, `
		INSERT INTO balance_changes AS c (wallet_id, token_id, block_number, block_hash, block_time, amount)
		SELECT $1, token, position, '', at, amount::numeric
		FROM unnest($2::text[], $3::bigint[], $4::timestamptz[], $5::text[]) AS i (token, position, at, amount)
		ORDER BY token, position
		ON CONFLICT (wallet_id, token_id, block_number) DO UPDATE SET amount = excluded.amount
		WHERE c.amount <> excluded.amount
		RETURNING token_id, block_number, xmax = 0`, id, tokens, positions, times, amounts)
	if err != nil {
		return t, err
	}
	for stored.Next() {
		var token string
		var position int64
		var added bool
		if err := stored.Scan(&token, &position, &added); err != nil {
			return t, err
		}
		if added {
			result.Stored++
		} else {
			result.Replaced++
		}
		t.add(id, token, position)
	}
	if err := stored.Err(); err != nil {
		return t, err
	}
	result.Unchanged = n - result.Stored - result.Replaced
	return t, checkStored(ctx, conn, id, "balances", `
		SELECT count(*) FROM balance_changes WHERE wallet_id = $1 AND block_number < 0`, result.Stored)
}

// checkStored returns an error when an import that added rows leaves too many of its kind.
func checkStored(ctx context.Context, conn *pgx.Conn, id uuid.UUID, what, count string, added int) error {
	if added == 0 {
		return nil
	}
	var n int
	if err := conn.QueryRow(ctx, count, id).Scan(&n); err != nil {
		return err
	}
	if n > importing.MaxStored {
		return errs.Exhausted("TOO_MANY_IMPORTED_ROWS", fmt.Sprintf("a wallet can have %d imported %s, and would "+
			"have %d; nothing of this import was stored", importing.MaxStored, what, n)).
			With("limit", strconv.Itoa(importing.MaxStored))
	}
	return nil
}

// settle makes the balances and adjustments of a wallet's tokens that an import touched. Of a token without a balance
// of the chain the balance is the last that was imported and what moved since, or zero if that is less: the adjustment
// has the difference then.
func settle(ctx context.Context, conn *pgx.Conn, t touched) error {
	if len(t.wallets) == 0 {
		return nil
	}
	if err := balancesOfImports(ctx, conn, t); err != nil {
		return err
	}
	return adjust(ctx, conn, t)
}

// balancesOfImports makes the balances of wallets' tokens that no balance of the chain is known of from what was
// imported. Where nothing of that is left there is no balance.
func balancesOfImports(ctx context.Context, conn *pgx.Conn, t touched) error {
	_, err := conn.Exec(ctx, `
		WITH present AS (
		  SELECT i.wallet, i.token, coalesce(c.amount, 0) + coalesce(m.moved, 0) AS amount,
		         greatest(c.block_number, m.block_number) AS block_number, greatest(c.block_time, m.block_time) AS at
		  FROM (SELECT DISTINCT wallet, token FROM unnest($1::uuid[], $2::text[]) AS i (wallet, token)) AS i
		  LEFT JOIN LATERAL (
		    SELECT amount, block_number, block_time FROM balance_changes
		    WHERE wallet_id = i.wallet AND token_id = i.token AND block_number < 0
		    ORDER BY block_number DESC LIMIT 1) c ON true
		  LEFT JOIN LATERAL (
		    SELECT sum(amount) AS moved, max(block_number) AS block_number, max(block_time) AS block_time
		    FROM transactions
		    WHERE wallet_id = i.wallet AND token_id = i.token AND kind <> 'ADJUSTMENT' AND block_number < 0
		      AND block_number > coalesce(c.block_number, -9223372036854775808)) m ON true),
		gone AS (
		  DELETE FROM balances b USING present p
		  WHERE b.wallet_id = p.wallet AND b.token_id = p.token AND b.block_number < 0 AND p.block_number IS NULL)
		INSERT INTO balances (wallet_id, token_id, amount, block_number, block_hash, block_time)
		SELECT wallet, token, least(greatest(amount, 0), 2::numeric ^ 256 - 1), block_number, '', at
		FROM present WHERE block_number IS NOT NULL ORDER BY wallet, token
		ON CONFLICT (wallet_id, token_id) DO UPDATE
		SET amount = excluded.amount, block_number = excluded.block_number, block_time = excluded.block_time
		WHERE balances.block_number < 0`, t.wallets, t.tokens)
	if err != nil {
		return fmt.Errorf("store imported balances: %w", err)
	}
	return nil
}

// removeOverlap removes what was imported of wallets' tokens at and after the first time that the chain tells of them,
// and returns t with the places from which their adjustments are to be made anew. A balance that rested on such an
// import rests on what is left.
func removeOverlap(ctx context.Context, conn *pgx.Conn, t touched) (touched, error) {
	rows, err := conn.Query(ctx, `
		WITH input AS (SELECT DISTINCT wallet, token FROM unnest($1::uuid[], $2::text[]) AS i (wallet, token)),
		told AS (
		  SELECT i.wallet, i.token, `+chainSince("i.wallet", "i.token")+` AS since FROM input i
		  WHERE EXISTS (SELECT FROM transactions WHERE wallet_id = i.wallet AND token_id = i.token
		                AND block_number < 0)
		     OR EXISTS (SELECT FROM balance_changes WHERE wallet_id = i.wallet AND token_id = i.token
		                AND block_number < 0)),
		moved AS (
		  DELETE FROM transactions t USING told o
		  WHERE t.wallet_id = o.wallet AND t.token_id = o.token AND t.block_number < 0 AND t.block_time >= o.since
		  RETURNING t.wallet_id, t.token_id, t.block_number),
		changed AS (
		  DELETE FROM balance_changes c USING told o
		  WHERE c.wallet_id = o.wallet AND c.token_id = o.token AND c.block_number < 0 AND c.block_time >= o.since
		  RETURNING c.wallet_id, c.token_id, c.block_number)
		SELECT wallet_id, token_id, min(block_number)
		FROM (SELECT * FROM moved UNION ALL SELECT * FROM changed) AS gone
		GROUP BY 1, 2`, t.wallets, t.tokens)
	if err != nil {
		return t, fmt.Errorf("remove imports: %w", err)
	}
	all := touched{slices.Clone(t.wallets), slices.Clone(t.tokens), slices.Clone(t.since)}
	var gone touched
	for rows.Next() {
		var w uuid.UUID
		var token string
		var since int64
		if err := rows.Scan(&w, &token, &since); err != nil {
			return t, fmt.Errorf("remove imports: %w", err)
		}
		all.add(w, token, since)
		gone.add(w, token, since)
	}
	if err := rows.Err(); err != nil {
		return t, fmt.Errorf("remove imports: %w", err)
	}
	if len(gone.wallets) == 0 {
		return all, nil
	}
	return all, balancesOfImports(ctx, conn, gone)
}
