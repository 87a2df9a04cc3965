package store

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// Positions are stored by change (table position_changes): the positions of a snapshot are
// the last changes at or before it. A snapshot that is stored between two others, or in
// place of one, changes the rows at it and at the snapshot after it, and no others.

// amounts are base units by asset and place, as decimal text. They are not changed once they are
// those of a snapshot.
type amounts map[line]string

// storedSnapshot is a snapshot as far as its neighbours need it.
type storedSnapshot struct {
	bucket     time.Time
	total      string
	measurable bool
	unpriced   int
	incomplete int  // wallets
	backfilled bool // an incomplete wallet is not in total then
	priceGap   bool
	priceSeq   int64
	membership int32
	netFlow    *string
	digest     *uuid.UUID // of held; nil when not known
	held       amounts
	candidate  *candidate // set of one that was stored in this transaction
	marked     bool       // priceGap or measurable has changed since it was read
	flipped    bool       // measurable has
}

// window is a stretch of a portfolio's snapshots, without gaps: from the last measurable
// one before some hours, to the next one after them and the next measurable one.
type window struct {
	snapshots []storedSnapshot
	before    amounts // held before the window
	same      bool    // the snapshots all hold the same, which is before
}

// windows are those of some portfolios.
type windows struct {
	of      map[uuid.UUID]*window
	assets  map[int32]asset
	places  map[int32]valuation.Place
	changes map[changeKey]*string // the stored rows in the windows; nil for the end of a position
	spans   map[uuid.UUID]span    // what they are around
	widened bool                  // the spans reach as far as a price gap can
}

// changeKey is the key of a row of position_changes.
type changeKey struct {
	portfolio uuid.UUID
	line
	hour int64
}

const readSnapshots = `
SELECT w.portfolio_id, s.bucket, s.total::text, s.measurable, s.unpriced_count, s.incomplete_wallet_count,
       s.price_gap, s.price_seq, s.net_flow::text, s.held_digest, s.backfilled, s.membership
FROM unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[]) AS w (portfolio_id, first, last)
CROSS JOIN LATERAL (
  SELECT coalesce((SELECT max(bucket) FROM snapshots
                   WHERE portfolio_id = w.portfolio_id AND bucket < w.first AND measurable), w.first) AS first,
         coalesce((SELECT min(bucket) FROM snapshots
                   WHERE portfolio_id = w.portfolio_id AND bucket > w.last AND measurable),
                  (SELECT min(bucket) FROM snapshots WHERE portfolio_id = w.portfolio_id AND bucket > w.last),
                  w.last) AS last) AS bounds
JOIN snapshots s ON s.portfolio_id = w.portfolio_id AND s.bucket >= bounds.first AND s.bucket <= bounds.last
ORDER BY w.portfolio_id, s.bucket`

// readChanges reads the changes from $2 to $3, and the last ones before as those of no
// bucket. Each asset in a place is one step in the index.
const readChanges = `
SELECT w.portfolio_id, c.asset, c.place, c.bucket, c.amount::text, a.token_id, a.symbol, a.decimals, a.verified,
       p.protocol, p.market, p.kind, p.rate_mode, p.collateral
FROM unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[]) AS w (portfolio_id, first, last)
CROSS JOIN LATERAL (
  WITH RECURSIVE known (asset, place) AS (
    (SELECT asset, place FROM position_changes WHERE portfolio_id = w.portfolio_id ORDER BY asset, place LIMIT 1)
    UNION ALL
    SELECT next.asset, next.place
    FROM known CROSS JOIN LATERAL (
      SELECT c.asset, c.place FROM position_changes c
      WHERE c.portfolio_id = w.portfolio_id AND (c.asset, c.place) > (known.asset, known.place)
      ORDER BY c.asset, c.place LIMIT 1) AS next
  )
  SELECT asset, place FROM known) AS known
CROSS JOIN LATERAL (
  (SELECT asset, place, NULL::timestamptz AS bucket, amount FROM position_changes AS p
   WHERE portfolio_id = w.portfolio_id AND asset = known.asset AND place = known.place AND p.bucket < w.first
   ORDER BY p.bucket DESC LIMIT 1)
  UNION ALL
  SELECT asset, place, bucket, amount FROM position_changes
  WHERE portfolio_id = w.portfolio_id AND asset = known.asset AND place = known.place
    AND bucket >= w.first AND bucket <= w.last) AS c
JOIN assets a ON a.id = c.asset
JOIN places p ON p.id = c.place`

// span is a stretch of hours, by the Unix times of the first and the last.
type span [2]int64

// readWindows reads the windows around what was stored, and returns the rows of changes
// that they have to have. They are as wide as the price gaps that begin or end with it.
func readWindows(ctx context.Context, conn *pgx.Conn,
	stored map[portfolioHour]*candidate) (*windows, map[changeKey]*string, error) {
	spans := make(map[uuid.UUID]span)
	for at := range stored {
		s, ok := spans[at.portfolio]
		if !ok {
			s = span{at.hour, at.hour}
		}
		spans[at.portfolio] = span{min(s[0], at.hour), max(s[1], at.hour)}
	}
	w, err := readSpans(ctx, conn, spans, stored)
	if err != nil {
		return nil, nil, err
	}
	changes := w.replace(stored)
	all, err := w.markPriceGaps(ctx, conn)
	if err != nil || all {
		return w, changes, err
	}
	if w, err = readSpans(ctx, conn, w.spans, stored); err != nil {
		return nil, nil, err
	}
	w.widened = true
	changes = w.replace(stored)
	_, err = w.markPriceGaps(ctx, conn)
	return w, changes, err
}

// readSpans reads the windows around stretches of hours.
func readSpans(ctx context.Context, conn *pgx.Conn, spans map[uuid.UUID]span,
	stored map[portfolioHour]*candidate) (*windows, error) {
	w := &windows{of: map[uuid.UUID]*window{}, assets: map[int32]asset{}, places: map[int32]valuation.Place{},
		changes: map[changeKey]*string{}, spans: spans}
	var ids []uuid.UUID
	var first, last []time.Time
	for id, span := range spans {
		ids, first = append(ids, id), append(first, time.Unix(span[0], 0).UTC())
		last = append(last, time.Unix(span[1], 0).UTC())
	}
	rows, err := conn.Query(ctx, readSnapshots, ids, first, last)
	if err != nil {
		return nil, fmt.Errorf("read neighbouring snapshots: %w", err)
	}
	var id uuid.UUID
	var s storedSnapshot
	columns := []any{&id, &s.bucket, &s.total, &s.measurable, &s.unpriced, &s.incomplete, &s.priceGap, &s.priceSeq,
		&s.netFlow, &s.digest, &s.backfilled, &s.membership}
	_, err = pgx.ForEachRow(rows, columns, func() error {
		of := w.of[id]
		if of == nil {
			of = &window{before: amounts{}}
			w.of[id] = of
		}
		of.snapshots = append(of.snapshots, s)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read neighbouring snapshots: %w", err)
	}
	ids, first, last = nil, nil, nil
	for id, of := range w.of {
		oldest, newest := of.snapshots[0].bucket, of.snapshots[len(of.snapshots)-1].bucket
		now := stored[portfolioHour{id, newest.Unix()}]
		if stored[portfolioHour{id, oldest.Unix()}] == nil && now != nil && of.unchanged() {
			of.before, of.same = w.amountsOf(now), true
			continue
		}
		ids, first, last = append(ids, id), append(first, oldest), append(last, newest)
	}
	return w, w.readChanges(ctx, conn, ids, first, last)
}

// unchanged reports whether all snapshots of the window hold the same. If the first was stored before, no change
// is stored after it, and none has to be.
func (of *window) unchanged() bool {
	first := of.snapshots[0].digest
	return len(of.snapshots) > 1 && first != nil && !slices.ContainsFunc(of.snapshots, func(s storedSnapshot) bool {
		return s.digest == nil || *s.digest != *first
	})
}

// heldDigest returns the first half of the SHA-256 of the positions: of their assets, places and amounts.
func (c *candidate) heldDigest() *uuid.UUID {
	order := make([]int, len(c.positions))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return c.lines[a].compare(c.lines[b]) })
	var text []byte
	for _, i := range order {
		text = strconv.AppendInt(text, int64(c.lines[i].asset), 10)
		if place := c.lines[i].place; place != 0 {
			text = strconv.AppendInt(append(text, '@'), int64(place), 10)
		}
		text = append(text, ':')
		text = append(c.positions[i].Amount.Append(text, 16), ',')
	}
	sum := sha256.Sum256(text)
	digest := uuid.UUID(sum[:16])
	return &digest
}

// readChanges reads the changes of positions within the windows.
func (w *windows) readChanges(ctx context.Context, conn *pgx.Conn, ids []uuid.UUID, first, last []time.Time) error {
	if len(ids) == 0 {
		return nil
	}
	rows, err := conn.Query(ctx, readChanges, ids, first, last)
	if err != nil {
		return fmt.Errorf("read changes of positions: %w", err)
	}
	var of uuid.UUID
	var id line
	var bucket *time.Time
	var amount *string
	var a asset
	var place valuation.Place
	columns := []any{&of, &id.asset, &id.place, &bucket, &amount, &a.tokenID, &a.symbol, &a.decimals, &a.verified,
		&place.Protocol, &place.Market, &place.Kind, &place.RateMode, &place.Collateral}
	_, err = pgx.ForEachRow(rows, columns, func() error {
		w.assets[id.asset], w.places[id.place] = a, place
		switch {
		case bucket != nil:
			w.changes[changeKey{of, id, bucket.Unix()}] = amount
		case amount != nil:
			w.of[of].before[id] = *amount
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read changes of positions: %w", err)
	}
	return nil
}

// replace gives the snapshots that were stored their new positions, and all others those
// that they had. It returns the rows that say so.
func (w *windows) replace(stored map[portfolioHour]*candidate) map[changeKey]*string {
	old := make(map[portfolioHour]map[line]*string)
	for at, amount := range w.changes {
		key := portfolioHour{at.portfolio, at.hour}
		if old[key] == nil {
			old[key] = map[line]*string{}
		}
		old[key][at.line] = amount
	}
	changes := make(map[changeKey]*string)
	for id, of := range w.of {
		before, held := of.before, of.before
		for i := range of.snapshots {
			s := &of.snapshots[i]
			key := portfolioHour{id, s.bucket.Unix()}
			before = before.with(old[key])
			s.held, s.candidate = before, stored[key]
			if of.same {
				continue
			}
			if s.candidate != nil {
				s.held = w.amountsOf(s.candidate)
			}
			for at, amount := range s.held.since(held) {
				changes[changeKey{id, at, key.hour}] = amount
			}
			held = s.held
		}
	}
	return changes
}

func (w *windows) amountsOf(c *candidate) amounts {
	held := make(amounts, len(c.positions))
	for i, p := range c.positions {
		w.assets[c.lines[i].asset], w.places[c.lines[i].place] = assetOf(p), p.Place
		held[c.lines[i]] = p.Amount.String()
	}
	return held
}

// with returns the amounts after changes.
func (a amounts) with(changes map[line]*string) amounts {
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

// since returns what changed from before.
func (a amounts) since(before amounts) map[line]*string {
	changes := make(map[line]*string)
	for id, amount := range a {
		if was, ok := before[id]; !ok || was != amount {
			changes[id] = &amount
		}
	}
	for id := range before {
		if _, ok := a[id]; !ok {
			changes[id] = nil
		}
	}
	return changes
}

const (
	deleteChanges = `
DELETE FROM position_changes c
USING unnest($1::uuid[], $2::integer[], $3::integer[], $4::timestamptz[])
      AS gone (portfolio_id, asset, place, bucket)
WHERE c.portfolio_id = gone.portfolio_id AND c.asset = gone.asset AND c.place = gone.place
  AND c.bucket = gone.bucket`
	upsertChanges = `
INSERT INTO position_changes (portfolio_id, asset, place, bucket, amount)
SELECT portfolio_id, asset, place, bucket, amount::numeric
FROM unnest($1::uuid[], $2::integer[], $3::integer[], $4::timestamptz[], $5::text[])
     AS c (portfolio_id, asset, place, bucket, amount)
ON CONFLICT (portfolio_id, asset, place, bucket) DO UPDATE SET amount = excluded.amount`
)

// changeRows are rows of position_changes as columns.
type changeRows struct {
	portfolios []uuid.UUID
	assets     []int32
	places     []int32
	buckets    []time.Time
	amounts    []*string
}

func (r *changeRows) add(key changeKey, amount *string) {
	r.portfolios, r.assets = append(r.portfolios, key.portfolio), append(r.assets, key.asset)
	r.places = append(r.places, key.place)
	r.buckets, r.amounts = append(r.buckets, time.Unix(key.hour, 0).UTC()), append(r.amounts, amount)
}

// storeChanges makes the rows in the windows those of changes.
func (w *windows) storeChanges(ctx context.Context, conn *pgx.Conn, changes map[changeKey]*string) error {
	var gone, upserted changeRows
	for key, amount := range w.changes {
		if _, ok := changes[key]; !ok {
			gone.add(key, amount)
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(changes), compareChanges) { // neighbours in the index
		if before, ok := w.changes[key]; !ok || !sameText(before, changes[key]) {
			upserted.add(key, changes[key])
		}
	}
	if len(gone.assets) > 0 {
		_, err := conn.Exec(ctx, deleteChanges, gone.portfolios, gone.assets, gone.places, gone.buckets)
		if err != nil {
			return fmt.Errorf("delete changes of positions: %w", err)
		}
	}
	if len(upserted.assets) > 0 {
		_, err := conn.Exec(ctx, upsertChanges, upserted.portfolios, upserted.assets, upserted.places,
			upserted.buckets, upserted.amounts)
		if err != nil {
			return fmt.Errorf("store changes of positions: %w", err)
		}
	}
	return nil
}

func compareChanges(a, b changeKey) int {
	if c := bytes.Compare(a.portfolio[:], b.portfolio[:]); c != 0 {
		return c
	}
	return cmp.Or(a.compare(b.line), cmp.Compare(a.hour, b.hour))
}

func sameText(a, b *string) bool { return a == b || a != nil && b != nil && *a == *b }
