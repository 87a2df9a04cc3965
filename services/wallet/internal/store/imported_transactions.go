package store

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/purserhq/purser/services/wallet/internal/importing"
	"github.com/purserhq/purser/services/wallet/internal/transaction"
)

// importedMovement is an imported transaction as it is stored.
type importedMovement struct {
	id, token, kind, amount, counterparty string
	hash                                  string // its bytes
	position                              int64
}

func movementOf(t importing.Transaction) importedMovement {
	m := importedMovement{id: t.ID, token: t.Token, kind: string(t.Kind), amount: t.Amount.Dec(),
		counterparty: t.Counterparty, hash: string(t.Hash), position: importing.Position(t.At)}
	if t.Out {
		m.amount = "-" + m.amount
	}
	return m
}

// indexes are the place of an imported transaction among those of its time: by its id, so that it is another one for
// each row.
func indexes(id string) (transactionIndex, logIndex int32) {
	sum := sha256.Sum256([]byte(id))
	a, b := binary.BigEndian.Uint32(sum[:4]), binary.BigEndian.Uint32(sum[4:8])
	return int32(a % transaction.AdjustmentIndex), int32(b >> 1)
}

// importTransactions stores transactions, in place of those with the same ids.
func importTransactions(ctx context.Context, conn *pgx.Conn, id uuid.UUID, rows []importing.Transaction,
	result *importing.Result) (t touched, err error) {
	ids := make([]string, len(rows))
	for i, r := range rows {
		ids[i] = r.ID
	}
	before, err := importedBefore(ctx, conn, id, ids)
	if err != nil {
		return t, err
	}
	var replaced []string
	var added []importing.Transaction
	for _, r := range rows {
		old, had := before[r.ID]
		switch {
		case !had:
			result.Stored++
		case old == movementOf(r):
			result.Unchanged++
			continue
		default:
			result.Replaced++
			replaced = append(replaced, r.ID)
			t.add(id, old.token, old.position)
		}
		added = append(added, r)
		t.add(id, r.Token, importing.Position(r.At))
	}
	if len(replaced) > 0 {
		_, err := conn.Exec(ctx, "DELETE FROM transactions WHERE wallet_id = $1 AND row_id = ANY($2) AND row_id <> ''",
			id, replaced)
		if err != nil {
			return t, err
		}
	}
	if err := insertImported(ctx, conn, id, added); err != nil {
		return t, err
	}
	return t, checkStored(ctx, conn, id, "transactions",
		"SELECT count(*) FROM transactions WHERE wallet_id = $1 AND row_id <> ''", result.Stored)
}

// importedBefore returns the imported transactions of a wallet with these ids.
func importedBefore(ctx context.Context, conn *pgx.Conn, id uuid.UUID, ids []string) (map[string]importedMovement,
	error) {
	rows, err := conn.Query(ctx, `
		SELECT row_id, token_id, kind, amount::text, counterparty, hash, block_number
		FROM transactions WHERE wallet_id = $1 AND row_id = ANY($2) AND row_id <> ''`, id, ids)
	if err != nil {
		return nil, err
	}
	before := map[string]importedMovement{}
	for rows.Next() {
		var m importedMovement
		var hash []byte
		if err := rows.Scan(&m.id, &m.token, &m.kind, &m.amount, &m.counterparty, &hash, &m.position); err != nil {
			return nil, err
		}
		m.hash = string(hash)
		before[m.id] = m
	}
	return before, rows.Err()
}

func insertImported(ctx context.Context, conn *pgx.Conn, id uuid.UUID, added []importing.Transaction) error {
	rows := make([]insertedTransaction, len(added))
	for i, r := range added {
		m := movementOf(r)
		transactionIndex, logIndex := indexes(m.id)
		rows[i] = insertedTransaction{WalletID: id, BlockNumber: m.position, TransactionIndex: transactionIndex,
			LogIndex: logIndex, TokenID: m.token, Kind: r.Kind, Amount: m.amount, SelfAmount: "0",
			Counterparty: m.counterparty, Hash: []byte(m.hash), BlockTime: r.At, RowID: m.id}
	}
	body, err := json.Marshal(rows)
	if err == nil {
		_, err = conn.Exec(ctx, insertTransactions, body)
	}
	if err != nil {
		return fmt.Errorf("store transactions: %w", err)
	}
	return nil
}
