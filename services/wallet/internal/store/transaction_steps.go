package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/wallet/internal/caip"
	"github.com/purserhq/purser/services/wallet/internal/token"
	"github.com/purserhq/purser/services/wallet/internal/transaction"
)

// KnownTokens implements transaction.ScanStore.
func (s *Transactions) KnownTokens(ctx context.Context, ids []string) (map[string]token.Token, error) {
	out := make(map[string]token.Token, len(ids))
	if len(ids) == 0 {
		return out, nil
	}
	rows, err := s.tokens.readRows(ctx, ids)
	if err != nil {
		return nil, err
	}
	for id, r := range rows {
		if out[id], err = tokenFromRow(r); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// SaveStep implements transaction.ScanStore.
func (s *Transactions) SaveStep(ctx context.Context, step transaction.Step) (saved int, err error) {
	err = cache.Change(ctx, s.tokens.db, func(tx *gorm.DB) (invalid []cache.Invalidation, err error) {
		err = postgres.Raw(tx, func(conn *pgx.Conn) (err error) {
			added, err := putDiscovered(ctx, conn, step.Tokens)
			if err == nil {
				saved, err = saveStep(ctx, conn, step)
			}
			if len(added) > 0 {
				invalid = []cache.Invalidation{{Cache: s.tokens.caches.tokens, Keys: added}}
			}
			return err
		})
		return invalid, err
	})
	if err != nil {
		return 0, fmt.Errorf("store transactions: %w", err)
	}
	return saved, nil
}

// putDiscovered adds tokens that are not known yet, and returns their ids.
func putDiscovered(ctx context.Context, conn *pgx.Conn, tokens []token.Token) ([]string, error) {
	if len(tokens) == 0 {
		return nil, nil
	}
	n := len(tokens)
	ids, chains, contracts := make([]string, n), make([]string, n), make([]string, n)
	symbols, names := make([]string, n), make([]string, n)
	decimals, spam := make([]int16, n), make([]bool, n)
	for i, t := range tokens {
		r := tokenToRow(t)
		ids[i], chains[i], contracts[i], symbols[i], names[i] = r.ID, r.Chain, r.Contract, r.Symbol, r.Name
		decimals[i], spam[i] = r.Decimals, t.Spam
	}
	rows, err := conn.Query(ctx, `
		INSERT INTO tokens (id, chain, contract, symbol, name, decimals, verified, decimals_checked, discovered, spam)
		SELECT id, chain, contract, symbol, name, decimals, false, true, true, spam
		FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::smallint[], $7::boolean[])
		  AS t (id, chain, contract, symbol, name, decimals, spam)
		ORDER BY id ON CONFLICT DO NOTHING RETURNING id`, ids, chains, contracts, symbols, names, decimals, spam)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// saveStep stores what a step found, for the wallets whose scans are still where they were.
func saveStep(ctx context.Context, conn *pgx.Conn, step transaction.Step) (int, error) {
	if err := lockScans(ctx, conn, step.Chain); err != nil {
		return 0, err
	}
	ids, before := make([]uuid.UUID, len(step.Scans)), make([]int64, len(step.Scans))
	for i, scan := range step.Scans {
		ids[i], before[i] = scan.Wallet, int64(scan.Scanned)
	}
	rows, err := conn.Query(ctx, `
		SELECT w.id FROM wallets w JOIN unnest($1::uuid[], $2::bigint[]) AS i (id, scanned) ON w.id = i.id
		LEFT JOIN transaction_scans s ON s.wallet_id = w.id
		WHERE coalesce(s.scanned_block, 0) = i.scanned
		ORDER BY w.id FOR NO KEY UPDATE OF w`, ids, before)
	if err != nil {
		return 0, err
	}
	current, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil || len(current) == 0 {
		return 0, err
	}
	moved := movementsOf(step, current)
	if err := insertMovements(ctx, conn, moved); err != nil {
		return 0, err
	}
	_, err = conn.Exec(ctx, `
		INSERT INTO transaction_scans (wallet_id, scanned_block) SELECT unnest($1::uuid[]), $2
		ON CONFLICT (wallet_id) DO UPDATE SET scanned_block = excluded.scanned_block`, current,
		int64(step.Through.Number))
	if err != nil {
		return 0, err
	}
	_, err = conn.Exec(ctx, `
		WITH old AS (DELETE FROM scanned_blocks WHERE chain = $1 AND block_number IN (
		  SELECT block_number FROM scanned_blocks WHERE chain = $1 ORDER BY block_number DESC OFFSET $4))
		INSERT INTO scanned_blocks (chain, block_number, block_hash) VALUES ($1, $2, $3)
		ON CONFLICT (chain, block_number) DO UPDATE SET block_hash = excluded.block_hash`,
		int64(step.Chain), int64(step.Through.Number), step.Through.Hash[:], maxCheckpoints)
	if err != nil {
		return 0, err
	}
	var t touched
	for _, m := range moved {
		t.add(m.wallet, m.token, int64(m.At.Number))
	}
	return len(current), adjust(ctx, conn, t)
}

// walletMovement is a movement as it is stored.
type walletMovement struct {
	wallet uuid.UUID
	token  string
	transaction.Found
}

// movementsOf returns what a step found for each of the wallets, without what they knew before.
func movementsOf(step transaction.Step, wallets []uuid.UUID) []walletMovement {
	current := make(map[uuid.UUID]bool, len(wallets))
	for _, id := range wallets {
		current[id] = true
	}
	byHolder := map[common.Address][]transaction.Scan{}
	for _, scan := range step.Scans {
		if current[scan.Wallet] {
			byHolder[scan.Account.Address] = append(byHolder[scan.Account.Address], scan)
		}
	}
	native := caip.NativeAsset(step.Chain).String()
	var out []walletMovement
	for _, f := range step.Found {
		id := native
		if !f.Native {
			id = caip.Asset{Chain: step.Chain, Contract: f.Contract}.String()
		}
		for _, scan := range byHolder[f.Holder] {
			if f.At.Number > scan.Scanned || scan.Scanned == 0 {
				out = append(out, walletMovement{scan.Wallet, id, f})
			}
		}
	}
	return out
}

func insertMovements(ctx context.Context, conn *pgx.Conn, moved []walletMovement) error {
	if len(moved) == 0 {
		return nil
	}
	rows := make([]insertedTransaction, len(moved))
	wallets, tokens, blocks := make([]uuid.UUID, len(moved)), make([]string, len(moved)), make([]int64, len(moved))
	for i, m := range moved {
		row := insertedTransaction{WalletID: m.wallet, BlockNumber: int64(m.At.Number),
			TransactionIndex: m.TransactionIndex, LogIndex: m.LogIndex, TokenID: m.token, Kind: m.Kind,
			Amount: m.Amount.Dec(), SelfAmount: "0", Hash: m.Hash[:], BlockHash: m.At.Hash[:], BlockTime: m.At.Time}
		switch m.Direction {
		case transaction.Out:
			row.Amount = "-" + row.Amount
		case transaction.Self:
			row.Amount, row.SelfAmount = "0", row.Amount
		}
		if m.Kind == transaction.Transfer {
			row.Counterparty = strings.ToLower(m.Counterparty.Hex())
		}
		rows[i] = row
		wallets[i], tokens[i], blocks[i] = row.WalletID, row.TokenID, row.BlockNumber
	}
	body, err := json.Marshal(rows)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, insertTransactions+`
		ON CONFLICT (wallet_id, block_number, transaction_index, log_index, token_id) DO NOTHING`, body)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, `
		INSERT INTO wallet_tokens (wallet_id, token_id, first_block)
		SELECT i.wallet, i.token, min(i.block)
		FROM unnest($1::uuid[], $2::text[], $3::bigint[]) AS i (wallet, token, block)
		JOIN tokens k ON k.id = i.token AND k.discovered
		GROUP BY 1, 2 ORDER BY 1, 2 ON CONFLICT DO NOTHING`, wallets, tokens, blocks)
	return err
}

// insertedTransaction is a row of transactions as [insertTransactions] reads it. Amounts are strings, so that they
// stay exact.
type insertedTransaction struct {
	WalletID         uuid.UUID        `json:"wallet_id"`
	BlockNumber      int64            `json:"block_number"`
	TransactionIndex int32            `json:"transaction_index"`
	LogIndex         int32            `json:"log_index"`
	TokenID          string           `json:"token_id"`
	Kind             transaction.Kind `json:"kind"`
	Amount           string           `json:"amount"`
	SelfAmount       string           `json:"self_amount"`
	Counterparty     string           `json:"counterparty"`
	Hash             bytea            `json:"hash"`
	BlockHash        bytea            `json:"block_hash"`
	BlockTime        time.Time        `json:"block_time"`
	RowID            string           `json:"row_id"` // of an imported transaction
}

// bytea is encoded as Postgres reads bytes from text.
type bytea []byte

func (b bytea) MarshalText() ([]byte, error) { return fmt.Appendf(nil, `\x%x`, []byte(b)), nil }

// insertTransactions inserts the transactions of $1, a JSON array, in one order, so that two inserts of the same ones
// don't deadlock.
const insertTransactions = `
	INSERT INTO transactions (wallet_id, block_number, transaction_index, log_index, token_id, kind, amount,
	                          self_amount, counterparty, hash, block_hash, block_time, row_id)
	SELECT wallet_id, block_number, transaction_index, log_index, token_id, kind, amount, self_amount, counterparty,
	       hash, block_hash, block_time, row_id
	FROM json_populate_recordset(null::transactions, $1)
	ORDER BY wallet_id, block_number, transaction_index, log_index, token_id`
