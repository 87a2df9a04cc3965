package store

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Positions are stored by change (table position_changes): the positions of a snapshot are
// the last changes at or before it. A snapshot that is stored between two others, or in
// place of one, changes the rows at it and at the snapshot after it, and no others.

// amounts are base units by asset, as decimal text. They are not changed once they are
// those of a snapshot.
type amounts map[int32]string

// storedSnapshot is a snapshot as far as its neighbours need it.
type storedSnapshot struct {
	bucket     time.Time
	total      string
	measurable bool
	priceSeq   int64
	netFlow    *string
	held       amounts
	candidate  *candidate // set of one that was stored in this transaction
}

// window is a stretch of a portfolio's snapshots, without gaps: from the last measurable
// one before some buckets, to the next one after them and the next measurable one.
type window struct {
	portfolio uuid.UUID
	snapshots []storedSnapshot
	assets    map[int32]asset
	changes   map[assetHour]*string // the stored rows in the window; nil for the end of a position
	before    amounts               // held before the window
}

const windowSnapshots = `
SELECT bucket, total::text, measurable, price_seq, net_flow::text
FROM snapshots
WHERE portfolio_id = $1
  AND bucket >= coalesce(
    (SELECT max(bucket) FROM snapshots WHERE portfolio_id = $1 AND bucket < $2 AND measurable), $2)
  AND bucket <= coalesce(
    (SELECT min(bucket) FROM snapshots WHERE portfolio_id = $1 AND bucket > $3 AND measurable),
    (SELECT min(bucket) FROM snapshots WHERE portfolio_id = $1 AND bucket > $3), $3)
ORDER BY bucket`

// windowChanges reads the changes from $2 to $3, and the last ones before as those of no
// bucket. Each asset is one step in the index.
const windowChanges = `
WITH RECURSIVE known (asset) AS (
  SELECT min(asset) FROM position_changes WHERE portfolio_id = $1
  UNION ALL
  SELECT (SELECT min(c.asset) FROM position_changes c WHERE c.portfolio_id = $1 AND c.asset > known.asset)
  FROM known WHERE known.asset IS NOT NULL
)
SELECT c.asset, c.bucket, c.amount::text, a.token_id, a.symbol, a.decimals, a.verified
FROM known
CROSS JOIN LATERAL (
  (SELECT asset, NULL::timestamptz AS bucket, amount FROM position_changes AS p
   WHERE portfolio_id = $1 AND asset = known.asset AND p.bucket < $2 ORDER BY p.bucket DESC LIMIT 1)
  UNION ALL
  SELECT asset, bucket, amount FROM position_changes
  WHERE portfolio_id = $1 AND asset = known.asset AND bucket >= $2 AND bucket <= $3) AS c
JOIN assets a ON a.id = c.asset
WHERE known.asset IS NOT NULL`

// readWindow reads the window around the snapshots from first to last, which are stored.
func readWindow(ctx context.Context, conn *pgx.Conn, portfolioID uuid.UUID, first, last time.Time) (*window, error) {
	w := &window{portfolio: portfolioID, assets: map[int32]asset{}, changes: map[assetHour]*string{}, before: amounts{}}
	rows, err := conn.Query(ctx, windowSnapshots, portfolioID, first, last)
	if err != nil {
		return nil, fmt.Errorf("read neighbouring snapshots: %w", err)
	}
	var s storedSnapshot
	_, err = pgx.ForEachRow(rows, []any{&s.bucket, &s.total, &s.measurable, &s.priceSeq, &s.netFlow}, func() error {
		w.snapshots = append(w.snapshots, s)
		return nil
	})
	if err != nil || len(w.snapshots) == 0 {
		return nil, fmt.Errorf("read %d neighbouring snapshots: %w", len(w.snapshots), err)
	}
	rows, err = conn.Query(ctx, windowChanges, portfolioID, w.snapshots[0].bucket,
		w.snapshots[len(w.snapshots)-1].bucket)
	if err != nil {
		return nil, fmt.Errorf("read changes of positions: %w", err)
	}
	var id int32
	var bucket *time.Time
	var amount *string
	var a asset
	_, err = pgx.ForEachRow(rows, []any{&id, &bucket, &amount, &a.tokenID, &a.symbol, &a.decimals, &a.verified},
		func() error {
			w.assets[id] = a
			switch {
			case bucket != nil:
				w.changes[assetHour{id, bucket.Unix()}] = amount
			case amount != nil:
				w.before[id] = *amount
			}
			return nil
		})
	if err != nil {
		return nil, fmt.Errorf("read changes of positions: %w", err)
	}
	return w, nil
}

// replace gives the snapshots of the buckets their new positions, and all others those
// that they had. It returns the rows that say so.
func (w *window) replace(candidates map[int64]*candidate, ids map[asset]int32) map[assetHour]*string {
	stored := make(map[int64]map[int32]*string) // by hour
	for at, amount := range w.changes {
		if stored[at.hour] == nil {
			stored[at.hour] = map[int32]*string{}
		}
		stored[at.hour][at.asset] = amount
	}
	changes := make(map[assetHour]*string)
	old, held := w.before, w.before
	for i := range w.snapshots {
		s := &w.snapshots[i]
		hour := s.bucket.Unix()
		old = old.with(stored[hour])
		s.held = old
		if s.candidate = candidates[hour]; s.candidate != nil {
			s.held = make(amounts, len(s.candidate.positions))
			for _, p := range s.candidate.positions {
				id := ids[assetOf(p)]
				w.assets[id] = assetOf(p)
				s.held[id] = p.Amount.String()
			}
		}
		for id, amount := range s.held {
			if before, ok := held[id]; !ok || before != amount {
				changes[assetHour{id, hour}] = &amount
			}
		}
		for id := range held {
			if _, ok := s.held[id]; !ok {
				changes[assetHour{id, hour}] = nil
			}
		}
		held = s.held
	}
	return changes
}

// with returns the amounts after changes.
func (a amounts) with(changes map[int32]*string) amounts {
	if len(changes) == 0 {
		return a
	}
	changed := maps.Clone(a)
	for id, amount := range changes {
		if amount == nil {
			delete(changed, id)
		} else {
			changed[id] = *amount
		}
	}
	return changed
}

const (
	deleteChanges = `
DELETE FROM position_changes c USING unnest($2::integer[], $3::timestamptz[]) AS gone (asset, bucket)
WHERE c.portfolio_id = $1 AND c.asset = gone.asset AND c.bucket = gone.bucket`
	upsertChanges = `
INSERT INTO position_changes (portfolio_id, asset, bucket, amount)
SELECT $1, asset, bucket, amount::numeric FROM unnest($2::integer[], $3::timestamptz[], $4::text[])
  AS c (asset, bucket, amount)
ON CONFLICT (portfolio_id, asset, bucket) DO UPDATE SET amount = excluded.amount`
)

// storeChanges makes the rows in the window those of changes.
func (w *window) storeChanges(ctx context.Context, conn *pgx.Conn, changes map[assetHour]*string) error {
	var gone, upserted []int32
	var goneAt, upsertedAt []time.Time
	var values []*string
	for at := range w.changes {
		if _, ok := changes[at]; !ok {
			gone, goneAt = append(gone, at.asset), append(goneAt, time.Unix(at.hour, 0).UTC())
		}
	}
	for at, amount := range changes {
		if before, ok := w.changes[at]; ok && sameText(before, amount) {
			continue
		}
		upserted, upsertedAt = append(upserted, at.asset), append(upsertedAt, time.Unix(at.hour, 0).UTC())
		values = append(values, amount)
	}
	if len(gone) > 0 {
		if _, err := conn.Exec(ctx, deleteChanges, w.portfolio, gone, goneAt); err != nil {
			return fmt.Errorf("delete changes of positions: %w", err)
		}
	}
	if len(upserted) > 0 {
		if _, err := conn.Exec(ctx, upsertChanges, w.portfolio, upserted, upsertedAt, values); err != nil {
			return fmt.Errorf("store changes of positions: %w", err)
		}
	}
	return nil
}

func sameText(a, b *string) bool { return a == b || a != nil && b != nil && *a == *b }
