package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/wallet/internal/price"
	"github.com/purserhq/purser/services/wallet/internal/token"
	"github.com/purserhq/purser/services/wallet/internal/transaction"
)

// declareStream sorts the movements once. They are fetched some at a time, so that no more are in memory.
const declareStream = `
	DECLARE movements NO SCROLL CURSOR FOR
	SELECT t.wallet_id, t.block_number, t.transaction_index, t.log_index, t.token_id, t.kind, t.amount::text,
	       t.self_amount::text, t.counterparty, t.hash, t.block_hash, t.block_time, t.row_id, p.id
	FROM transactions t JOIN wallets w ON w.id = t.wallet_id JOIN tokens k ON k.id = t.token_id
	LEFT JOIN wallets p ON p.owner_id = w.owner_id AND p.id <> w.id AND t.counterparty <> ''
	     AND p.account = k.chain || ':' || t.counterparty
	WHERE w.owner_id = $1
	ORDER BY t.block_time, t.block_number, t.transaction_index, t.log_index, t.wallet_id, t.token_id`

// pricesOfMovements reads the prices of tokens in hours, which are from $3 to $4.
const pricesOfMovements = `
	SELECT h.token_id, h.hour, h.price::text, h.source, h.price_time, h.good_for_seconds
	FROM unnest($1::text[], $2::timestamptz[]) AS m (token, hour)
	JOIN price_history h ON h.token_id = m.token AND h.hour = m.hour AND h.hour BETWEEN $3 AND $4
	WHERE h.fetched_at > 'epoch'`

// Stream implements transaction.Store.
func (s *Transactions) Stream(ctx context.Context, owner uuid.UUID, limit int,
	visit func([]transaction.Priced) error) error {
	visited := false
	err := postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		if visited { // what was visited can't be taken back
			return errors.New("the transaction was begun again")
		}
		return postgres.Raw(tx, func(conn *pgx.Conn) error {
			if _, err := conn.Exec(ctx, declareStream, pgx.QueryExecModeSimpleProtocol, owner); err != nil {
				return err
			}
			known := map[string]token.Token{}
			for {
				page, err := fetchMovements(ctx, conn, limit, known)
				if err == nil {
					err = addPrices(ctx, conn, page)
				}
				if err != nil || len(page) == 0 {
					return err
				}
				visited = true
				if err := visit(page); err != nil || len(page) < limit {
					return err
				}
			}
		})
	}, postgres.RepeatableRead, postgres.ReadOnly)
	if err != nil {
		return fmt.Errorf("stream transactions: %w", err)
	}
	return nil
}

// fetchMovements returns the next movements. known are the tokens of those before; it adds theirs.
func fetchMovements(ctx context.Context, conn *pgx.Conn, limit int, known map[string]token.Token) (
	[]transaction.Priced, error) {
	rows, err := conn.Query(ctx, fmt.Sprintf("FETCH %d FROM movements", limit))
	if err != nil {
		return nil, err
	}
	var r movementRow
	var all []movementRow
	_, err = pgx.ForEachRow(rows, []any{&r.WalletID, &r.BlockNumber, &r.TransactionIndex, &r.LogIndex, &r.TokenID,
		&r.Kind, &r.Amount, &r.SelfAmount, &r.Counterparty, &r.Hash, &r.BlockHash, &r.BlockTime, &r.RowID,
		&r.CounterpartyWallet}, func() error {
		all = append(all, r)
		r.CounterpartyWallet, r.Hash, r.BlockHash = nil, nil, nil
		return nil
	})
	if err != nil {
		return nil, err
	}
	var unknown []string
	for _, r := range all {
		if _, has := known[r.TokenID]; !has {
			known[r.TokenID] = token.Token{}
			unknown = append(unknown, r.TokenID)
		}
	}
	if len(unknown) > 0 {
		tokens, err := pastTokens(ctx, conn, unknown)
		if err != nil {
			return nil, err
		}
		for id, t := range tokens {
			known[id] = t
		}
	}
	page := make([]transaction.Priced, len(all))
	for i, r := range all {
		m, err := movementWithout(r)
		if err != nil {
			return nil, err
		}
		m.Token, m.At.Time = known[r.TokenID], m.At.Time.UTC()
		page[i] = transaction.Priced{Movement: m, Unread: true}
	}
	return page, nil
}

// addPrices adds the prices of their hours to movements in the order of their times.
func addPrices(ctx context.Context, conn *pgx.Conn, page []transaction.Priced) error {
	if len(page) == 0 {
		return nil
	}
	type key struct {
		token string
		hour  int64
	}
	wanted := map[key][]int{}
	var ids []string
	var hours []time.Time
	for i, m := range page {
		k := key{m.TokenID, hourOf(m.At.Time).Unix()}
		if wanted[k] == nil {
			ids, hours = append(ids, m.TokenID), append(hours, hourOf(m.At.Time))
		}
		wanted[k] = append(wanted[k], i)
	}
	rows, err := conn.Query(ctx, pricesOfMovements, ids, hours, hours[0], hours[len(hours)-1])
	if err != nil {
		return err
	}
	var id, source string
	var hour time.Time
	var value *string
	var at *time.Time
	var goodFor int64
	_, err = pgx.ForEachRow(rows, []any{&id, &hour, &value, &source, &at, &goodFor}, func() error {
		var p price.Price
		if value != nil && at != nil {
			var err error
			p, err = priceFromRow(priceRow{TokenID: id, Price: *value, Source: source, PriceTime: *at,
				GoodForSeconds: goodFor})
			if err != nil {
				return err
			}
		}
		for _, i := range wanted[key{id, hour.Unix()}] {
			page[i].Price, page[i].Unread = p, false
		}
		return nil
	})
	return err
}

func hourOf(t time.Time) time.Time { return t.UTC().Truncate(time.Hour) }
