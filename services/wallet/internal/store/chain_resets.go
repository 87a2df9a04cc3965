package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/caip"
	"github.com/purserhq/purser/services/wallet/internal/chainreset"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

// ChainResets implements chainreset.Store.
type ChainResets struct {
	db      *postgres.DB
	wallets *Wallets
}

// NewChainResets returns the records of chains in db, whose wallets are w.
func NewChainResets(db *postgres.DB, w *Wallets) *ChainResets {
	return &ChainResets{db: db, wallets: w}
}

type resetRow struct {
	SuspectedAt *time.Time
	Seen        int
	Evidence    string
	Forgetting  bool
	ForgottenAt *time.Time
	Now         time.Time
}

func (r resetRow) record() chainreset.Record {
	return chainreset.Record{SuspectedAt: r.SuspectedAt, Seen: r.Seen, Evidence: r.Evidence, Forgetting: r.Forgetting,
		ForgottenAt: r.ForgottenAt, Now: r.Now}
}

// Record implements chainreset.Store.
func (s *ChainResets) Record(ctx context.Context, chain uint64) (chainreset.Record, error) {
	var row resetRow
	err := s.db.Gorm(ctx).Raw(`
		SELECT suspected_at, coalesce(seen, 0) AS seen, coalesce(evidence, '') AS evidence,
		       coalesce(forgetting, false) AS forgetting, forgotten_at, clock_timestamp() AS now
		FROM (SELECT ?::bigint AS chain) c LEFT JOIN chain_resets USING (chain)`, int64(chain)).Scan(&row).Error
	if err != nil {
		return chainreset.Record{}, fmt.Errorf("read the resets of a chain: %w", err)
	}
	var blocks []struct {
		BlockNumber int64
		BlockHash   []byte
	}
	err = s.db.Gorm(ctx).Raw(`SELECT block_number, block_hash FROM chain_blocks WHERE chain = ?
		ORDER BY block_number DESC`, int64(chain)).Scan(&blocks).Error
	if err != nil {
		return chainreset.Record{}, fmt.Errorf("read the kept blocks of a chain: %w", err)
	}
	r := row.record()
	for _, b := range blocks {
		r.Blocks = append(r.Blocks, block.Block{Number: uint64(max(0, b.BlockNumber)), Hash: hash(b.BlockHash)})
	}
	return r, nil
}

// Keep implements chainreset.Store.
func (s *ChainResets) Keep(ctx context.Context, chain uint64, add []block.Block, remove []uint64) error {
	numbers, hashes, gone := make([]int64, len(add)), make([][]byte, len(add)), make([]int64, len(remove))
	for i, b := range add {
		numbers[i], hashes[i] = int64(b.Number), b.Hash[:]
	}
	for i, n := range remove {
		gone[i] = int64(n)
	}
	err := postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		return postgres.Raw(tx, func(conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, "DELETE FROM chain_blocks WHERE chain = $1 AND block_number = ANY($2)",
				int64(chain), gone)
			if err == nil {
				_, err = conn.Exec(ctx, `
					INSERT INTO chain_blocks (chain, block_number, block_hash)
					SELECT $1, n, h FROM unnest($2::bigint[], $3::bytea[]) AS b (n, h) ORDER BY n
					ON CONFLICT (chain, block_number) DO UPDATE SET block_hash = excluded.block_hash`,
					int64(chain), numbers, hashes)
			}
			if err == nil {
				_, err = conn.Exec(ctx, `UPDATE chain_resets SET suspected_at = NULL, seen = 0, evidence = ''
					WHERE chain = $1 AND suspected_at IS NOT NULL`, int64(chain))
			}
			return err
		})
	})
	if err != nil {
		return fmt.Errorf("keep blocks of a chain: %w", err)
	}
	return nil
}

// Suspect implements chainreset.Store.
func (s *ChainResets) Suspect(ctx context.Context, chain uint64, evidence string) (chainreset.Record, error) {
	var row resetRow
	err := s.db.Gorm(ctx).Raw(`
		INSERT INTO chain_resets AS r (chain, suspected_at, seen, last_seen_at, evidence)
		VALUES (?, clock_timestamp(), 1, clock_timestamp(), ?)
		ON CONFLICT (chain) DO UPDATE
		SET suspected_at = coalesce(r.suspected_at, excluded.suspected_at), evidence = excluded.evidence,
		    seen = CASE WHEN r.last_seen_at > clock_timestamp() - interval '300 milliseconds' THEN r.seen
		                ELSE r.seen + 1 END,
		    last_seen_at = CASE WHEN r.last_seen_at > clock_timestamp() - interval '300 milliseconds'
		                        THEN r.last_seen_at ELSE excluded.last_seen_at END
		RETURNING suspected_at, seen, evidence, forgetting, forgotten_at, clock_timestamp() AS now`,
		int64(chain), evidence).Scan(&row).Error
	if err != nil {
		return chainreset.Record{}, fmt.Errorf("note the reset of a chain: %w", err)
	}
	return row.record(), nil
}

// ofChain are the rows of a chain's wallets: what was read of them, and not imported.
const ofChain = " WHERE wallet_id IN (SELECT id FROM wallets WHERE split_part(account, ':', 2) = @chain)"

// Count implements chainreset.Store.
func (s *ChainResets) Count(ctx context.Context, chain uint64) (n chainreset.Forgotten, err error) {
	err = s.db.Gorm(ctx).Raw(`
		SELECT (SELECT count(*) FROM wallets WHERE split_part(account, ':', 2) = @chain),
		       (SELECT count(*) FROM balances`+ofChain+` AND block_number >= 0),
		       (SELECT count(*) FROM balance_changes`+ofChain+` AND block_number >= 0),
		       (SELECT count(*) FROM transactions`+ofChain+` AND block_number >= 0),
		       (SELECT coalesce(sum(hours), 0) FROM wallet_history`+ofChain+`)`,
		map[string]any{"chain": fmt.Sprint(chain)}).Row().
		Scan(&n.Wallets, &n.Balances, &n.Changes, &n.Transactions, &n.Hours)
	if err != nil {
		return n, fmt.Errorf("count what is stored of a chain: %w", err)
	}
	return n, nil
}

// maxForgottenWallets is of how many wallets one transaction forgets what was read.
const maxForgottenWallets = 50

// Forget implements chainreset.Store.
func (s *ChainResets) Forget(ctx context.Context, chain uint64) (sum chainreset.Forgotten, err error) {
	err = s.db.Gorm(ctx).Exec(`
		INSERT INTO chain_resets AS r (chain, forgetting) VALUES (?, true)
		ON CONFLICT (chain) DO UPDATE SET forgetting = true,
		  forgotten_through = CASE WHEN r.forgetting THEN r.forgotten_through
		                           ELSE '00000000-0000-0000-0000-000000000000' END`, int64(chain)).Error
	for more := true; more && err == nil; {
		more, err = s.forgetSome(ctx, chain, &sum)
	}
	if err != nil {
		return sum, fmt.Errorf("forget a chain: %w", err)
	}
	return sum, nil
}

// forgetSome forgets the next wallets, or ends the forgetting when there are none.
func (s *ChainResets) forgetSome(ctx context.Context, chain uint64, sum *chainreset.Forgotten) (more bool, err error) {
	var removed chainreset.Forgotten
	defer s.wallets.wake()
	err = cache.Change(ctx, s.db, func(tx *gorm.DB) (invalid []cache.Invalidation, err error) {
		removed, more = chainreset.Forgotten{}, false // of an attempt that is made again
		var changed []changedWallet
		owners := map[uuid.UUID]uuid.UUID{}
		err = postgres.Raw(tx, func(conn *pgx.Conn) (err error) {
			if err = lockScans(ctx, conn, chain); err != nil {
				return err
			}
			var through uuid.UUID
			err = conn.QueryRow(ctx, `SELECT forgotten_through FROM chain_resets WHERE chain = $1 AND forgetting
				FOR UPDATE`, int64(chain)).Scan(&through)
			if errors.Is(err, pgx.ErrNoRows) {
				return nil // another replica has come to the end
			}
			if err != nil {
				return err
			}
			if changed, err = lockForgotten(ctx, conn, chain, through, owners); err != nil {
				return err
			}
			if len(changed) == 0 {
				tokens, err := endForgetting(ctx, conn, chain)
				invalid = append(invalid, cache.Invalidation{Cache: s.wallets.caches.tokens, Keys: tokens},
					cache.Invalidation{Cache: s.wallets.caches.generations, Keys: []string{tokensGeneration}})
				return err
			}
			more = true
			return forgetWallets(ctx, conn, chain, changed, &removed)
		})
		if err != nil || len(changed) == 0 {
			return invalid, err
		}
		keys := make([]string, 0, len(owners))
		for _, owner := range owners {
			keys = append(keys, owner.String())
		}
		return []cache.Invalidation{{Cache: s.wallets.caches.generations, Keys: keys}},
			noteBalances(tx, changed, func(id uuid.UUID) uuid.UUID { return owners[id] })
	})
	if err == nil {
		sum.Wallets, sum.Balances = sum.Wallets+removed.Wallets, sum.Balances+removed.Balances
		sum.Changes, sum.Transactions = sum.Changes+removed.Changes, sum.Transactions+removed.Transactions
		sum.Hours += removed.Hours
	}
	return more, err
}

// lockForgotten locks the next wallets of a chain, and sets their owners.
func lockForgotten(ctx context.Context, conn *pgx.Conn, chain uint64, through uuid.UUID,
	owners map[uuid.UUID]uuid.UUID) (wallets []changedWallet, err error) {
	rows, err := conn.Query(ctx, `SELECT id, owner_id FROM wallets
		WHERE id > $2 AND split_part(account, ':', 2) = $1 ORDER BY id LIMIT $3 FOR NO KEY UPDATE`,
		fmt.Sprint(chain), through, maxForgottenWallets)
	if err != nil {
		return nil, err
	}
	for rows.Next() {
		var id, owner uuid.UUID
		if err := rows.Scan(&id, &owner); err != nil {
			return nil, err
		}
		wallets, owners[id] = append(wallets, changedWallet{ID: id}), owner
	}
	return wallets, rows.Err()
}

// forgetWallets removes what was read of locked wallets, and has them synced as if they were new.
func forgetWallets(ctx context.Context, conn *pgx.Conn, chain uint64, wallets []changedWallet,
	removed *chainreset.Forgotten) error {
	ids := make([]uuid.UUID, len(wallets))
	for i, w := range wallets {
		ids[i] = w.ID
	}
	for _, of := range []struct {
		from  string
		count *int64
	}{
		{"balance_history WHERE", nil},
		{"position_history WHERE", nil},
		{"transactions WHERE block_number >= 0 AND", &removed.Transactions},
		{"balance_changes WHERE block_number >= 0 AND", &removed.Changes},
		{"balances WHERE block_number >= 0 AND", &removed.Balances},
		{"positions WHERE", nil},
		{"position_markets WHERE", nil},
		{"wallet_tokens WHERE", nil},
		{"transaction_scans WHERE", nil},
	} {
		done, err := conn.Exec(ctx, "DELETE FROM "+of.from+" wallet_id = ANY($1)", ids)
		if err != nil {
			return err
		}
		if of.count != nil {
			*of.count = done.RowsAffected()
		}
	}
	removed.Wallets = int64(len(ids))
	err := conn.QueryRow(ctx, `WITH gone AS (DELETE FROM wallet_history WHERE wallet_id = ANY($1) RETURNING hours)
		SELECT coalesce(sum(hours), 0) FROM gone`, ids).Scan(&removed.Hours)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, `UPDATE wallets SET sync_state = $2, synced_block = 0, synced_at = NULL, retry_at = NULL,
		sync_error = 'the chain was reset, and what was read of it is forgotten', sync_reason = 'CHAIN_RESET'
		WHERE id = ANY($1)`, ids, string(wallet.Pending))
	if err == nil {
		_, err = conn.Exec(ctx, "UPDATE chain_resets SET forgotten_through = $2 WHERE chain = $1", int64(chain),
			ids[len(ids)-1])
	}
	return err
}

// endForgetting removes what is known of the chain itself: the contracts of its tokens are asked again. It returns the
// tokens that changed.
func endForgetting(ctx context.Context, conn *pgx.Conn, chain uint64) (tokens []string, err error) {
	for _, table := range []string{"scanned_blocks", "chain_blocks", "chain_hours"} {
		if _, err := conn.Exec(ctx, "DELETE FROM "+table+" WHERE chain = $1", int64(chain)); err != nil {
			return nil, err
		}
	}
	rows, err := conn.Query(ctx, `UPDATE tokens SET decimals_checked = false, without_code = false
		WHERE chain = $1 AND contract <> '' AND (decimals_checked OR without_code) RETURNING id`, caip.ChainID(chain))
	if err != nil {
		return nil, err
	}
	if tokens, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
		return nil, err
	}
	_, err = conn.Exec(ctx, `UPDATE chain_resets SET forgetting = false, suspected_at = NULL, seen = 0, evidence = '',
		forgotten_at = clock_timestamp() WHERE chain = $1`, int64(chain))
	return tokens, err
}
