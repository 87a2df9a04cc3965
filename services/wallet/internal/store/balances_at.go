package store

import (
	"context"
	"fmt"
	"math/big"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/services/wallet/internal/asof"
)

type balanceAtRow struct {
	WalletID    uuid.UUID
	TokenID     *string
	Token       tokenRow `gorm:"embedded;embeddedPrefix:token_row_"`
	Amount      *string
	BlockNumber *int64
	BlockTime   *time.Time
	Exact       *bool
	Moved       *string
	FirstBlock  *int64 // of what moved
	LastBlock   *int64
	LastTime    *time.Time
}

// balancesAt finds, for each wallet and token, the last reading at or before a time, and the movements between it
// and the time.
//
// A reading is one of a sync (sync) or of an hour that was read on demand (hour). A sync's is the last change of the
// balance, or the first sync that read it, which found nothing when there is no change, or the present one. That hour
// is the last one of the last row of wallet_history; its amounts are the last ones of its frame (h.frame). In an hour
// without a balance of a token the wallet had none, if the token was read before and all could be. Movements are
// looked at no further than to the next change.
const balancesAt = `
	SELECT w.id AS wallet_id, k.token_id, t.id AS token_row_id, t.chain AS token_row_chain,
	       t.contract AS token_row_contract, t.symbol AS token_row_symbol, t.name AS token_row_name,
	       t.decimals AS token_row_decimals, t.verified AS token_row_verified,
	       t.decimals_checked AS token_row_decimals_checked, t.without_code AS token_row_without_code,
	       t.discovered AS token_row_discovered, t.spam AS token_row_spam,
	       base.amount::text AS amount, base.block_number, base.block_time, base.exact,
	       m.moved::text AS moved, m.first_block, m.last_block, m.last_time
	FROM (SELECT id, split_part(account, ':', 2)::bigint AS chain FROM wallets
	      WHERE owner_id = @owner AND CASE WHEN @all THEN archived_at IS NULL ELSE id = @wallet END
	        AND id >= @after ORDER BY id LIMIT @limit) w
	LEFT JOIN LATERAL (
	  SELECT hour, hours, unread FROM wallet_history
	  WHERE wallet_id = w.id AND hour <= @at ORDER BY hour DESC LIMIT 1) r ON true
	LEFT JOIN LATERAL (
	  SELECT hour, block_number, block_time, r.unread,
	         (date_trunc('month', hour AT TIME ZONE 'UTC')
	          + (extract(day FROM hour AT TIME ZONE 'UTC')::integer - 1) / 7 * interval '7 days')
	         AT TIME ZONE 'UTC' AS frame
	  FROM chain_hours
	  WHERE chain = w.chain AND hour >= r.hour AND block_time IS NOT NULL
	    AND hour <= least(@at, r.hour + (r.hours - 1) * interval '1 hour')
	  ORDER BY hour DESC LIMIT 1) h ON true
	LEFT JOIN LATERAL (
	  SELECT token_id FROM balances WHERE wallet_id = w.id AND (w.id <> @after OR token_id > @token)
	  UNION
	  (SELECT token_id FROM (
	     SELECT DISTINCT ON (token_id) token_id, amount FROM balance_history
	     WHERE wallet_id = w.id AND hour >= h.frame AND hour <= h.hour AND (w.id <> @after OR token_id > @token)
	     ORDER BY token_id, hour DESC) AS last WHERE amount > 0)
	  ORDER BY token_id LIMIT @limit) k ON true
	LEFT JOIN tokens t ON t.id = k.token_id
	LEFT JOIN LATERAL (
	  SELECT token_id, amount, block_number, block_time, 
	         coalesce(first_block_number, block_number) AS first_block_number,
	         coalesce(first_block_time, block_time) AS first_block_time
	  FROM balances WHERE wallet_id = w.id AND token_id = k.token_id AND block_number >= 0) b ON true
	LEFT JOIN LATERAL (
	  SELECT amount, block_number, block_time FROM balance_changes
	  WHERE wallet_id = w.id AND token_id = k.token_id AND block_time <= @at
	  ORDER BY block_time DESC, block_number DESC LIMIT 1) c ON true
	LEFT JOIN LATERAL (
	  SELECT token_id, amount FROM (
	    SELECT token_id, amount FROM balance_history
	    WHERE wallet_id = w.id AND token_id = k.token_id AND hour >= h.frame AND hour <= h.hour
	    ORDER BY hour DESC LIMIT 1) AS last WHERE amount > 0) bh ON true
	LEFT JOIN LATERAL (
	  SELECT amount, block_number, block_time, exact FROM (
	    SELECT CASE WHEN b.block_time <= @at THEN b.amount ELSE coalesce(c.amount, 0) END AS amount,
	           CASE WHEN b.block_time <= @at THEN b.block_number
	                WHEN c.block_time >= b.first_block_time OR b.first_block_time > @at OR b.token_id IS NULL
	                THEN c.block_number ELSE b.first_block_number END AS block_number,
	           CASE WHEN b.block_time <= @at THEN b.block_time
	                WHEN c.block_time >= b.first_block_time OR b.first_block_time > @at OR b.token_id IS NULL
	                THEN c.block_time ELSE b.first_block_time END AS block_time, false AS exact
	    WHERE c.block_number IS NOT NULL OR b.first_block_time <= @at
	    UNION ALL
	    SELECT coalesce(bh.amount, 0), h.block_number, h.block_time, h.hour = @at
	    WHERE bh.token_id IS NOT NULL
	       OR h.unread = '' AND (b.first_block_time <= h.block_time OR c.block_time <= h.block_time)) AS readings
	  ORDER BY block_time DESC, exact DESC LIMIT 1) base ON true
	LEFT JOIN LATERAL (
	  SELECT sum(amount) AS moved, min(block_number) AS first_block, max(block_number) AS last_block,
	         max(block_time) AS last_time
	  FROM transactions
	  WHERE wallet_id = w.id AND token_id = k.token_id AND kind <> 'ADJUSTMENT' AND block_time <= @at
	    AND block_number > coalesce(base.block_number, -9223372036854775808)
	    AND block_number <= coalesce((
	      SELECT block_number FROM balance_changes WHERE wallet_id = w.id AND token_id = k.token_id
	       AND block_number > coalesce(base.block_number, -9223372036854775808) AND block_time > @at
	      ORDER BY block_number LIMIT 1), 9223372036854775807)
	  HAVING count(*) > 0) m ON NOT coalesce(base.exact, false)
	WHERE (w.id, coalesce(k.token_id, '')) > (@after, @token)
	ORDER BY w.id, coalesce(k.token_id, '') LIMIT @limit`

// BalancesAt implements asof.Store.
func (s *Wallets) BalancesAt(ctx context.Context, q asof.Query) ([]asof.Row, error) {
	if q.Wallet != uuid.Nil {
		if _, err := s.ByID(ctx, q.Owner, q.Wallet); err != nil {
			return nil, err
		}
	}
	var rows []balanceAtRow
	err := s.db.Gorm(ctx).Raw(balancesAt, map[string]any{"owner": q.Owner, "wallet": q.Wallet,
		"all": q.Wallet == uuid.Nil, "at": q.At, "after": q.After.Wallet, "token": q.After.Token, "limit": q.Limit}).
		Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read balances of a time: %w", err)
	}
	out := make([]asof.Row, len(rows))
	for i, r := range rows {
		if out[i], err = balanceAtFromRow(r); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func balanceAtFromRow(r balanceAtRow) (row asof.Row, err error) {
	if r.TokenID == nil {
		return asof.Row{Wallet: r.WalletID, Reason: asof.NotRead}, nil
	}
	t, err := tokenFromRow(r.Token)
	if err != nil {
		return row, err
	}
	var known asof.Record
	if r.BlockNumber != nil && r.BlockTime != nil && r.Amount != nil {
		known.Base = &asof.Point{Block: *r.BlockNumber, At: *r.BlockTime}
		known.Exact = r.Exact != nil && *r.Exact
		if known.Amount, err = amount(*r.Amount); err != nil {
			return row, err
		}
	}
	if r.Moved != nil && r.LastBlock != nil && r.LastTime != nil {
		var ok bool
		if known.Moved, ok = new(big.Int).SetString(*r.Moved, 10); !ok {
			return row, fmt.Errorf("amount %q in the database", *r.Moved)
		}
		known.Last = &asof.Point{Block: *r.LastBlock, At: *r.LastTime}
		known.Begins = r.FirstBlock != nil && *r.FirstBlock < 0
	}
	row = known.Row()
	row.Wallet, row.Token = r.WalletID, &t
	return row, nil
}
