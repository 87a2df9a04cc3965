package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// saveChanges keeps the present balances of tokens as changes, where they differ from the change before, and adjusts
// their movements. A change at a later block is of a chain that was reset, and is removed.
func saveChanges(ctx context.Context, conn *pgx.Conn, t touched) error {
	if len(t.wallets) == 0 {
		return nil
	}
	_, err := conn.Exec(ctx, `
		WITH input AS (SELECT * FROM unnest($1::uuid[], $2::text[]) AS i (wallet, token))
		DELETE FROM balance_changes c
		USING input i JOIN balances b ON b.wallet_id = i.wallet AND b.token_id = i.token
		WHERE c.wallet_id = i.wallet AND c.token_id = i.token AND c.block_number > b.block_number`,
		t.wallets, t.tokens)
	if err == nil {
		_, err = conn.Exec(ctx, `
		INSERT INTO balance_changes (wallet_id, token_id, block_number, block_hash, block_time, amount)
		SELECT b.wallet_id, b.token_id, b.block_number, b.block_hash, b.block_time, b.amount
		FROM unnest($1::uuid[], $2::text[]) AS i (wallet, token)
		JOIN balances b ON b.wallet_id = i.wallet AND b.token_id = i.token
		WHERE b.amount <> coalesce((SELECT c.amount FROM balance_changes c
		                            WHERE c.wallet_id = b.wallet_id AND c.token_id = b.token_id
		                            ORDER BY block_number DESC LIMIT 1), 0)
		ORDER BY b.wallet_id, b.token_id
		ON CONFLICT (wallet_id, token_id, block_number) DO UPDATE
		SET amount = excluded.amount, block_hash = excluded.block_hash, block_time = excluded.block_time`,
			t.wallets, t.tokens)
	}
	if err != nil {
		return fmt.Errorf("store changes of balances: %w", err)
	}
	return adjust(ctx, conn, t)
}
