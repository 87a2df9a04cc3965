package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/wallet/internal/balancesync"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

// queueTime is balancesync.QueueTime in SQL, written as in the index
// wallets_sync_queue.
const queueTime = `coalesce(
	CASE sync_state WHEN 'PENDING' THEN NULL WHEN 'SYNCED' THEN synced_at ELSE retry_at END,
	'0001-01-01 00:00:00+00'::timestamptz)`

// Due implements balancesync.QueueStore. The condition on the shard is a CASE,
// which the planner expects half of the rows to meet. Of an equality it expects so
// few that it would read and sort all rows instead of using the index.
func (s *Wallets) Due(ctx context.Context, q balancesync.DueQuery) ([]wallet.Wallet, error) {
	wallets, err := s.rows(ctx, `
		SELECT * FROM wallets
		WHERE archived_at IS NULL AND split_part(account, ':', 2) = ?
		  AND (`+queueTime+`, id) > (?::timestamptz, ?::uuid)
		  AND `+queueTime+` <= ? AND (sync_state <> 'SYNCED' OR `+queueTime+` < ?)
		  AND CASE get_byte(uuid_send(id), 15) % ? WHEN ? THEN true ELSE false END
		ORDER BY `+queueTime+`, id LIMIT ?`,
		strconv.FormatUint(q.Chain, 10), q.After.Time, q.After.ID, q.Now, q.SyncedBefore, q.Shards, q.Shard, q.Limit)
	if err != nil {
		return nil, fmt.Errorf("read due wallets: %w", err)
	}
	return wallets, nil
}

// WithoutNode implements balancesync.QueueStore.
func (s *Wallets) WithoutNode(ctx context.Context, chains []uint64, now time.Time, limit int) ([]wallet.Wallet,
	error) {
	wallets, err := s.rows(ctx, `
		SELECT * FROM wallets
		WHERE archived_at IS NULL AND split_part(account, ':', 2) NOT IN ? AND sync_state <> 'FAILED'
		  AND (sync_state <> 'SYNCING' OR coalesce(retry_at <= ?, true))
		ORDER BY id LIMIT ?`, chainNumbers(chains), now, limit)
	if err != nil {
		return nil, fmt.Errorf("read wallets without a node: %w", err)
	}
	return wallets, nil
}

func (s *Wallets) rows(ctx context.Context, query string, args ...any) ([]wallet.Wallet, error) {
	var rows []walletRow
	if err := s.db.Gorm(ctx).Raw(query, args...).Scan(&rows).Error; err != nil {
		return nil, err
	}
	wallets := make([]wallet.Wallet, len(rows))
	for i, r := range rows {
		w, err := fromRow(r)
		if err != nil {
			return nil, err
		}
		wallets[i] = w
	}
	return wallets, nil
}

// SaveOutcomes implements balancesync.QueueStore.
func (s *Wallets) SaveOutcomes(ctx context.Context, outcomes []balancesync.Outcome) error {
	owners := make(map[uuid.UUID]uuid.UUID, len(outcomes)) // by wallet
	for _, o := range outcomes {
		owners[o.Wallet.ID] = o.Wallet.Owner
	}
	defer s.wake()
	err := cache.Change(ctx, s.db, func(tx *gorm.DB) ([]cache.Invalidation, error) {
		var stale []string
		var changed []changedWallet
		err := postgres.Raw(tx, func(conn *pgx.Conn) (err error) {
			stale, changed, err = saveOutcomes(ctx, conn, outcomes)
			return err
		})
		if err != nil || len(stale) == 0 {
			return nil, err
		}
		if err := noteBalances(tx, changed, func(id uuid.UUID) uuid.UUID { return owners[id] }); err != nil {
			return nil, err
		}
		return []cache.Invalidation{{Cache: s.caches.generations, Keys: stale}}, nil
	})
	if err != nil {
		return fmt.Errorf("store syncs: %w", err)
	}
	return nil
}

// syncRow is an outcome as [saveOutcomes] passes it to the database.
type syncRow struct {
	ID        uuid.UUID        `json:"id"`
	State     wallet.SyncState `json:"state"`
	Error     string           `json:"error"`
	Reason    string           `json:"reason"`
	Retry     *time.Time       `json:"retry"`
	Block     int64            `json:"block"`
	At        *time.Time       `json:"at"` // nil for one that changed nothing
	LastBlock int64            `json:"last_block"`
	LastAt    *time.Time       `json:"last_at"`
}

// saveOutcomes returns the owners of the wallets that it changed, and those whose balances did. The wallets are
// locked in one order, so that concurrent calls don't deadlock; deleted ones have
// no row to lock.
func saveOutcomes(ctx context.Context, conn *pgx.Conn, outcomes []balancesync.Outcome) (owners []string,
	changed []changedWallet, err error) {
	byID := make(map[uuid.UUID]balancesync.Outcome, len(outcomes))
	ids := make([]uuid.UUID, len(outcomes))
	for i, o := range outcomes {
		ids[i], byID[o.Wallet.ID] = o.Wallet.ID, o
	}
	rows, err := conn.Query(ctx, "SELECT id FROM wallets WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE", ids)
	if err != nil {
		return nil, nil, err
	}
	existing, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return nil, nil, err
	}
	syncs := make([]syncRow, len(existing))
	var balances []walletBalance
	var readings []walletReadings
	for i, id := range existing {
		o := byID[id]
		row := syncRow{ID: id, State: o.Sync.State, Error: o.Sync.Error, Reason: o.Sync.Reason, Retry: o.Sync.RetryAt,
			Block: int64(o.Sync.Block)}
		if !o.Unchanged {
			row.At = o.Sync.At
		}
		if o.Sync.Last != nil {
			row.LastBlock, row.LastAt = int64(o.Sync.Last.Block), &o.Sync.Last.At
		}
		syncs[i] = row
		for _, b := range o.Balances {
			balances = append(balances, walletBalance{id, b})
		}
		readings = append(readings, readingsOf(id, o.Sync, o.Positions))
		if owner := o.Wallet.Owner.String(); !slices.Contains(owners, owner) {
			owners = append(owners, owner)
		}
	}
	body, err := json.Marshal(syncs)
	if err != nil {
		return nil, nil, err
	}
	// Like saveSync: synced_block and synced_at are those of the newest block.
	_, err = conn.Exec(ctx, `
		UPDATE wallets w SET sync_state = s.state, sync_error = s.error, sync_reason = s.reason, retry_at = s.retry,
		       synced_block = CASE WHEN s.older THEN w.synced_block ELSE s.block END,
		       synced_at = CASE WHEN s.older THEN w.synced_at ELSE s.at END
		FROM (SELECT o.*, o.state <> 'SYNCED' OR o.at IS NULL OR i.synced_at IS NULL AND o.last_at IS NOT NULL
		                  OR (i.synced_at > o.at OR i.synced_at = o.at AND i.synced_block > o.block)
		                  AND NOT coalesce(i.synced_block = o.last_block AND i.synced_at = o.last_at, false) AS older
		      FROM json_to_recordset($1)
		        AS o (id uuid, state text, error text, reason text, retry timestamptz, block bigint, at timestamptz,
		              last_block bigint, last_at timestamptz)
		      JOIN wallets i ON i.id = o.id) AS s
		WHERE w.id = s.id`, body)
	if err == nil && len(balances) > 0 {
		changed, err = upsertBalances(ctx, conn, balances)
	}
	if err == nil {
		changed, err = andPositions(ctx, conn, changed, readings...)
	}
	return owners, changed, err
}

// OldestSync implements balancesync.QueueStore.
func (s *Wallets) OldestSync(ctx context.Context, chains []uint64) (time.Time, error) {
	var oldest sql.NullTime // NULL without wallets
	err := s.db.Gorm(ctx).Raw(`
		SELECT min(coalesce(synced_at, created_at)) FROM wallets
		WHERE archived_at IS NULL AND split_part(account, ':', 2) IN ?`,
		chainNumbers(chains)).Row().Scan(&oldest)
	if err != nil {
		return time.Time{}, fmt.Errorf("read the oldest sync: %w", err)
	}
	return oldest.Time, nil
}

// chainNumbers returns chains as accounts contain them, and "", which is none,
// since the list of NOT IN must not be empty.
func chainNumbers(chains []uint64) []string {
	numbers := []string{""}
	for _, c := range chains {
		numbers = append(numbers, strconv.FormatUint(c, 10))
	}
	return numbers
}
