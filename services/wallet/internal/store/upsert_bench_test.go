package store_test

import (
	"context"
	"testing"

	"github.com/google/uuid"
	"github.com/holiman/uint256"
	"github.com/jackc/pgx/v5"
	pgxuuid "github.com/vgarvardt/pgx-google-uuid/v5"

	"github.com/purserhq/purser/pkg/testkit/versus"
	"github.com/purserhq/purser/services/wallet/internal/balancesync"
	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/store"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

// The balances of a sync of 10,000 wallets × 20 tokens are stored as the job does, 200 wallets at a time, beside one
// COPY of the same rows and one upsert in SQL, into a table of the same shape. In the first row the amounts are those
// of the sync before, as most are; in the second every amount is another, so that each is a change and an adjustment
// too.
func BenchmarkUpsertOf200000Balances(b *testing.B) {
	const wallets, each, perBatch = 10_000, 20, 200
	f := newFixture(b)
	list := tokens(each)
	if err := store.NewTokens(f.db.DB, caches(b, noRedis)).Put(b.Context(), list); err != nil {
		b.Fatal(err)
	}
	ids := make([]uuid.UUID, wallets)
	all := make([]wallet.Wallet, wallets)
	for i := range ids {
		ids[i] = uuid.New()
		all[i] = wallet.Wallet{ID: ids[i], Owner: f.owner}
	}
	conn, err := pgx.Connect(b.Context(), f.db.URL)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close(context.Background()) })
	pgxuuid.Register(conn.TypeMap())
	for _, statement := range []string{`INSERT INTO wallets (id, owner_id, account, created_at, updated_at)
		SELECT id, $2, 'eip155:1:0x' || lpad(to_hex(row_number() OVER ()), 40, '0'), now(), now()
		FROM unnest($1::uuid[]) id`,
		`CREATE TABLE raw_balances (LIKE balances INCLUDING ALL)`,
		`ALTER TABLE raw_balances ADD FOREIGN KEY (wallet_id) REFERENCES wallets (id),
			ADD FOREIGN KEY (token_id) REFERENCES tokens (id)`} {
		args := []any{ids, f.owner}
		if statement[0] != 'I' {
			args = nil
		}
		if _, err := conn.Exec(b.Context(), statement, args...); err != nil {
			b.Fatal(err)
		}
	}
	for _, other := range []bool{false, true} {
		name, goal := "the same amounts", 1/0.6
		if other {
			name, goal = "every amount another", 0
		}
		b.Run(name, func(b *testing.B) {
			number := uint64(0)
			amountOf := func(i int) uint256.Int {
				if other {
					return *uint256.NewInt(number*1000 + uint64(i))
				}
				return *uint256.NewInt(uint64(i) + 1)
			}
			ours := func() {
				number++
				at := block.Block{Number: number, Hash: [32]byte{1}, Time: at(int(number))}
				for start := 0; start < wallets; start += perBatch {
					outcomes := make([]balancesync.Outcome, perBatch)
					for j := range outcomes {
						balances := make([]wallet.Balance, each)
						for k, token := range list {
							balances[k] = wallet.Balance{Token: token, Amount: amountOf((start+j)*each + k), Block: at}
						}
						outcomes[j] = balancesync.Outcome{Wallet: all[start+j], Balances: balances,
							Sync: wallet.Sync{State: wallet.Synced, Block: number, At: &at.Time}}
					}
					if err := f.SaveOutcomes(b.Context(), outcomes); err != nil {
						b.Fatal(err)
					}
				}
			}
			raw := func() {
				number++
				at := at(int(number))
				rows := pgx.CopyFromSlice(wallets*each, func(i int) ([]any, error) {
					a := amountOf(i)
					return []any{ids[i/each], list[i%each].ID, a.Dec(), int64(number), make([]byte, 32), at}, nil
				})
				if err := copyAndUpsert(b.Context(), conn, rows); err != nil {
					b.Fatal(err)
				}
			}
			raw()
			ours()
			versus.Run(b, versus.Comparison{Goal: goal, Slow: true, Raw: raw, Ours: ours})
		})
	}
}

func copyAndUpsert(ctx context.Context, conn *pgx.Conn, rows pgx.CopyFromSource) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `CREATE TEMP TABLE copied (wallet_id uuid, token_id text, amount text,
			block_number bigint, block_hash bytea, block_time timestamptz) ON COMMIT DROP`); err != nil {
			return err
		}
		columns := []string{"wallet_id", "token_id", "amount", "block_number", "block_hash", "block_time"}
		if _, err := tx.CopyFrom(ctx, pgx.Identifier{"copied"}, columns, rows); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `
			INSERT INTO raw_balances (wallet_id, token_id, amount, block_number, block_hash, block_time)
			SELECT wallet_id, token_id, amount::numeric, block_number, block_hash, block_time FROM copied
			ON CONFLICT (wallet_id, token_id) DO UPDATE
			SET amount = excluded.amount, block_number = excluded.block_number, block_hash = excluded.block_hash,
			    block_time = excluded.block_time`)
		return err
	})
}
