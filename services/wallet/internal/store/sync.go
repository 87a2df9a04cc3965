package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/wallet/internal/sync"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

// turn is Turn of package sync, written as the index wallets_turn has it.
const turn = `coalesce(CASE sync_state WHEN 'PENDING' THEN NULL WHEN 'SYNCED' THEN synced_at ELSE retry_at END, '0001-01-01 00:00:00+00'::timestamptz)`

// Due implements sync.Everybody. The shard is a CASE, of which the planner takes
// half the rows to pass: of an equality it expects so few that it would rather
// read and sort them all than follow the index.
func (s *Wallets) Due(ctx context.Context, d sync.Due) ([]wallet.Wallet, error) {
	wallets, err := s.rows(ctx, `
		SELECT * FROM wallets
		WHERE split_part(account, ':', 2) = ? AND (`+turn+`, id) > (?::timestamptz, ?::uuid)
		  AND `+turn+` <= ? AND (sync_state <> 'SYNCED' OR `+turn+` < ?)
		  AND CASE get_byte(uuid_send(id), 15) % ? WHEN ? THEN true ELSE false END
		ORDER BY `+turn+`, id LIMIT ?`,
		strconv.FormatUint(d.Chain, 10), d.After.Turn, d.After.ID, d.Now, d.Before, d.Shards, d.Shard, d.Limit)
	if err != nil {
		return nil, fmt.Errorf("read wallets that are due: %w", err)
	}
	return wallets, nil
}

// Stranded implements sync.Everybody.
func (s *Wallets) Stranded(ctx context.Context, chains []uint64, now time.Time, limit int) ([]wallet.Wallet, error) {
	wallets, err := s.rows(ctx, `
		SELECT * FROM wallets
		WHERE split_part(account, ':', 2) NOT IN ? AND sync_state <> 'FAILED'
		  AND (sync_state <> 'SYNCING' OR coalesce(retry_at <= ?, true))
		ORDER BY id LIMIT ?`, named(chains), now, limit)
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

// SaveAll implements sync.Everybody.
func (s *Wallets) SaveAll(ctx context.Context, outcomes []sync.Outcome) error {
	err := cache.Change(ctx, s.db, func(tx *gorm.DB) ([]cache.Invalidation, error) {
		var owners []string
		err := postgres.Raw(tx, func(conn *pgx.Conn) (err error) {
			owners, err = saveAll(ctx, conn, outcomes)
			return err
		})
		if err != nil || len(owners) == 0 {
			return nil, err
		}
		return []cache.Invalidation{{Cache: s.caches.generations, Keys: owners}}, nil
	})
	if err != nil {
		return fmt.Errorf("store syncs: %w", err)
	}
	return nil
}

// saveAll returns the owners of the wallets that it changed. The wallets are
// locked in one order, so that it meets no other's deadlock; those that are
// gone have no row to lock.
func saveAll(ctx context.Context, conn *pgx.Conn, outcomes []sync.Outcome) (owners []string, err error) {
	byID := make(map[uuid.UUID]sync.Outcome, len(outcomes))
	ids := make([]uuid.UUID, len(outcomes))
	for i, o := range outcomes {
		ids[i], byID[o.Wallet.ID] = o.Wallet.ID, o
	}
	rows, err := conn.Query(ctx, "SELECT id FROM wallets WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE", ids)
	if err != nil {
		return nil, err
	}
	there, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return nil, err
	}
	n := len(there)
	states, texts := make([]string, n), make([]string, n)
	blocks, times, retries := make([]int64, n), make([]*time.Time, n), make([]*time.Time, n)
	var held []balanceOf
	for i, id := range there {
		o := byID[id]
		states[i], texts[i], retries[i] = string(o.Sync.State), o.Sync.Error, o.Sync.Retry
		blocks[i], times[i] = int64(o.Sync.Block), o.Sync.At
		for _, b := range o.Balances {
			held = append(held, balanceOf{id, b})
		}
		if owner := o.Wallet.Owner.String(); !slices.Contains(owners, owner) {
			owners = append(owners, owner)
		}
	}
	// As saveSync: what is known is never moved back.
	_, err = conn.Exec(ctx, `
		UPDATE wallets w SET sync_state = s.state, sync_error = s.error, retry_at = s.retry,
		       synced_block = CASE WHEN s.at IS NULL THEN w.synced_block ELSE greatest(w.synced_block, s.block) END,
		       synced_at = greatest(w.synced_at, s.at)
		FROM unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[], $5::bigint[], $6::timestamptz[])
		  AS s (id, state, error, retry, block, at)
		WHERE w.id = s.id`, there, states, texts, retries, blocks, times)
	if err != nil || len(held) == 0 {
		return owners, err
	}
	return owners, upsert(ctx, conn, held)
}

// Oldest implements sync.Everybody.
func (s *Wallets) Oldest(ctx context.Context, chains []uint64) (time.Time, error) {
	var oldest sql.NullTime // of no wallet
	err := s.db.Gorm(ctx).Raw(`SELECT min(coalesce(synced_at, created_at)) FROM wallets WHERE split_part(account, ':', 2) IN ?`, named(chains)).Row().Scan(&oldest)
	if err != nil {
		return time.Time{}, fmt.Errorf("read the oldest sync: %w", err)
	}
	return oldest.Time, nil
}

// named are chains as accounts have them.
func named(chains []uint64) []string {
	names := []string{""} // of no chain, for a list may not be empty
	for _, c := range chains {
		names = append(names, strconv.FormatUint(c, 10))
	}
	return names
}
