package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/holiman/uint256"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/wallet/internal/history"
)

// SaveBalances implements history.Store. The number of statements doesn't depend on that of the hours.
func (s *History) SaveBalances(ctx context.Context, hours []history.HourBalances) error {
	if len(hours) == 0 {
		return nil
	}
	frames := map[int64]bool{}
	var starts []time.Time
	for _, h := range hours {
		if f := history.Frame(time.Unix(h.Hour, 0)); !frames[f.Unix()] {
			frames[f.Unix()] = true
			starts = append(starts, f)
		}
	}
	tables := []string{"wallet_history", "balance_history"}
	if slices.ContainsFunc(hours, func(h history.HourBalances) bool { return len(h.Positions) > 0 }) {
		tables = append(tables, "position_history")
	}
	s.partitions.Ensure(ctx, starts, tables...)
	for {
		err := postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
			return postgres.Raw(tx, func(conn *pgx.Conn) error { return saveHours(ctx, conn, hours) })
		})
		if !isLockTimeout(err) || ctx.Err() != nil {
			return err
		}
	}
}

// isLockTimeout reports that a lock was waited for as long as the pool allows.
func isLockTimeout(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "55P03"
}

// saveHours writes the hours of the wallets that exist. It locks those until the end of the transaction, against
// deletion and against others who write their history: what is stored of an hour depends on the hours beside it. Locks
// are taken in one order, so that concurrent calls don't deadlock.
func saveHours(ctx context.Context, conn *pgx.Conn, hours []history.HourBalances) error {
	byWallet := map[uuid.UUID][]history.HourBalances{}
	for _, h := range hours {
		byWallet[h.Wallet] = append(byWallet[h.Wallet], h)
	}
	rows, err := conn.Query(ctx, "SELECT id FROM wallets WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE",
		slices.SortedFunc(maps.Keys(byWallet), compareIDs))
	if err != nil {
		return fmt.Errorf("lock wallets: %w", err)
	}
	existing, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return fmt.Errorf("lock wallets: %w", err)
	}
	stored, err := readStored(ctx, conn, existing, hours)
	if err != nil {
		return fmt.Errorf("read stored history: %w", err)
	}
	var w historyWrites
	for _, id := range existing {
		read := byWallet[id]
		slices.SortFunc(read, func(a, b history.HourBalances) int { return cmp.Compare(a.Hour, b.Hour) })
		w.addRanges(id, stored[id].ranges, read)
		if err := w.positions.add(id, read); err != nil {
			return err
		}
		for len(read) > 0 {
			n := 1 // hours in a row of one frame
			end := history.FrameEnd(time.Unix(read[0].Hour, 0)).Unix()
			for n < len(read) && read[n].Hour == read[n-1].Hour+hourSeconds && read[n].Hour < end {
				n++
			}
			w.addAmounts(stored[id], read[:n])
			read = read[n:]
		}
	}
	if err := w.write(ctx, conn); err != nil {
		return fmt.Errorf("store history: %w", err)
	}
	return nil
}

func compareIDs(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) }

// storedRange is a row of wallet_history.
type storedRange struct {
	first, end int64 // Unix times
	assetCount int
	unread     string
	markets    bool // unread
	readAt     time.Time
}

// storedAmount is a row of balance_history.
type storedAmount struct {
	hour   int64
	token  string
	amount uint256.Int
}

// storedHistory is what is stored of a wallet in some frames, in order.
type storedHistory struct {
	ranges  []storedRange
	amounts []storedAmount
}

// readStored reads what is stored of wallets in the frames of hours.
func readStored(ctx context.Context, conn *pgx.Conn, wallets []uuid.UUID,
	hours []history.HourBalances) (map[uuid.UUID]*storedHistory, error) {
	first, last := hours[0].Hour, hours[0].Hour
	for _, h := range hours {
		first, last = min(first, h.Hour), max(last, h.Hour)
	}
	from, until := history.Frame(time.Unix(first, 0)), history.FrameEnd(time.Unix(last, 0))
	stored := map[uuid.UUID]*storedHistory{}
	ids := make([][16]byte, len(wallets))
	for i, id := range wallets {
		ids[i], stored[id] = id, &storedHistory{}
	}
	rows, err := conn.Query(ctx, `
		SELECT wallet_id, hour, hours::bigint, asset_count::bigint, unread, markets_unread, read_at FROM wallet_history
		WHERE wallet_id = ANY($1::uuid[]) AND hour >= $2 AND hour < $3 ORDER BY wallet_id, hour`, ids, from, until)
	if err != nil {
		return nil, err
	}
	var id [16]byte
	var hour time.Time
	var count, tokens int64
	var r storedRange
	_, err = pgx.ForEachRow(rows, []any{&id, &hour, &count, &tokens, &r.unread, &r.markets, &r.readAt}, func() error {
		r.first, r.end, r.assetCount = hour.Unix(), hour.Unix()+count*hourSeconds, int(tokens)
		stored[id].ranges = append(stored[id].ranges, r)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if rows, err = conn.Query(ctx, readChangedAmounts, ids, from, until); err != nil {
		return nil, err
	}
	var token, text string
	_, err = pgx.ForEachRow(rows, []any{&id, &hour, &token, &text}, func() error {
		a, err := amount(text)
		stored[id].amounts = append(stored[id].amounts, storedAmount{hour.Unix(), token, a})
		return err
	})
	return stored, err
}

// at returns the amounts of an hour, of its frame.
func (s *storedHistory) at(frame, hour int64) map[string]uint256.Int {
	held := map[string]uint256.Int{}
	for _, a := range s.amounts {
		switch {
		case a.hour < frame || a.hour > hour:
		case a.amount.IsZero():
			delete(held, a.token)
		default:
			held[a.token] = a.amount
		}
	}
	return held
}

// historyWrites are the rows to be written and removed, as columns. IDs are [16]byte, since pgx encodes a uuid.UUID by
// way of its text.
type historyWrites struct {
	goneRanges struct {
		wallets [][16]byte
		hours   []time.Time
	}
	goneAmounts struct {
		wallets     [][16]byte
		first, last []time.Time
	}
	ranges struct {
		wallets       [][16]byte
		hours, readAt []time.Time
		count         []int16
		assets        []int32
		unread        []string
		markets       []bool
	}
	amounts struct {
		wallets         [][16]byte
		hours           []time.Time
		tokens, amounts []string
	}
	positions pastPositions
	blocks    map[history.ChainHour]history.HourBalances
}

// addRanges adds which hours were read, in place of what is stored of them.
func (w *historyWrites) addRanges(id uuid.UUID, stored []storedRange, read []history.HourBalances) {
	isNew := map[int64]bool{}
	for _, h := range read {
		isNew[h.Hour] = true
	}
	for _, r := range stored {
		left := r // what stays of it and was not added yet
		for hour := r.first; hour < r.end; hour += hourSeconds {
			if !isNew[hour] {
				continue
			}
			if left.end = hour; left.first < left.end {
				w.addRange(id, left)
			}
			left.first = hour + hourSeconds
		}
		if left == r {
			continue
		}
		w.goneRanges.wallets = append(w.goneRanges.wallets, id)
		w.goneRanges.hours = append(w.goneRanges.hours, time.Unix(r.first, 0))
		if left.end = r.end; left.first < left.end {
			w.addRange(id, left)
		}
	}
	for i := 0; i < len(read); {
		n := i + 1
		end := history.FrameEnd(time.Unix(read[i].Hour, 0)).Unix()
		for n < len(read) && read[n].Hour == read[n-1].Hour+hourSeconds &&
			sameRecord(read[i].Record, read[n].Record) && read[n].Hour < end {
			n++
		}
		w.addRange(id, storedRange{read[i].Hour, read[n-1].Hour + hourSeconds, read[i].AssetCount, read[i].Unread,
			read[i].MarketsUnread, read[i].ReadAt})
		i = n
	}
}

// addAmounts adds the balances of hours in a row of one frame of a wallet, in place of what is stored of them, also in
// stored. The hours after them keep their amounts.
func (w *historyWrites) addAmounts(stored *storedHistory, read []history.HourBalances) {
	id := read[0].Wallet
	first, end := read[0].Hour, read[len(read)-1].Hour+hourSeconds
	frame := history.Frame(time.Unix(first, 0)).Unix()
	frameEnd := history.FrameEnd(time.Unix(first, 0)).Unix()
	isIn := func(a storedAmount) bool { return a.hour >= first && a.hour < end }
	if slices.ContainsFunc(stored.amounts, isIn) {
		w.goneAmounts.wallets = append(w.goneAmounts.wallets, id)
		w.goneAmounts.first = append(w.goneAmounts.first, time.Unix(first, 0))
		w.goneAmounts.last = append(w.goneAmounts.last, time.Unix(end-hourSeconds, 0))
	}
	after := stored.at(frame, end-hourSeconds)
	held := stored.at(frame, first-hourSeconds)
	var added []storedAmount
	for _, h := range read {
		added = appendChanges(added, h.Hour, held, h.Balances, nil)
		held = h.Balances
		if w.blocks == nil {
			w.blocks = map[history.ChainHour]history.HourBalances{}
		}
		w.blocks[history.ChainHour{Chain: h.Chain, Hour: h.Hour}] = h
	}
	if slices.ContainsFunc(stored.ranges, func(r storedRange) bool { return r.end > end && r.first < frameEnd }) {
		has := map[string]bool{}
		for _, a := range stored.amounts {
			if a.hour == end {
				has[a.token] = true
			}
		}
		added = appendChanges(added, end, held, after, has)
	}
	for _, a := range added {
		to := &w.amounts
		to.wallets, to.hours = append(to.wallets, id), append(to.hours, time.Unix(a.hour, 0))
		to.tokens, to.amounts = append(to.tokens, a.token), append(to.amounts, a.amount.Dec())
	}
	stored.amounts = append(slices.DeleteFunc(stored.amounts, isIn), added...)
	slices.SortStableFunc(stored.amounts, func(a, b storedAmount) int { return cmp.Compare(a.hour, b.hour) })
}

func sameRecord(a, b history.Record) bool {
	return a.AssetCount == b.AssetCount && a.Unread == b.Unread && a.MarketsUnread == b.MarketsUnread &&
		a.ReadAt.Equal(b.ReadAt)
}

func (w *historyWrites) addRange(id uuid.UUID, r storedRange) {
	to := &w.ranges
	to.wallets, to.hours = append(to.wallets, id), append(to.hours, time.Unix(r.first, 0))
	to.count = append(to.count, int16((r.end-r.first)/hourSeconds))
	to.assets, to.unread = append(to.assets, int32(r.assetCount)), append(to.unread, r.unread)
	to.markets, to.readAt = append(to.markets, r.markets), append(to.readAt, r.readAt)
}

// appendChanges appends what differs between the amounts before an hour and in it, but for some tokens.
func appendChanges(to []storedAmount, hour int64, before, in map[string]uint256.Int,
	but map[string]bool) []storedAmount {
	if maps.Equal(before, in) {
		return to
	}
	for token, a := range in {
		if was, held := before[token]; (!held || was != a) && !but[token] {
			to = append(to, storedAmount{hour, token, a})
		}
	}
	for token := range before {
		if _, held := in[token]; !held && !but[token] {
			to = append(to, storedAmount{hour, token, uint256.Int{}})
		}
	}
	return to
}

func (w *historyWrites) write(ctx context.Context, conn *pgx.Conn) error {
	if len(w.goneRanges.wallets) > 0 {
		_, err := conn.Exec(ctx, `
			DELETE FROM wallet_history h USING unnest($1::uuid[], $2::timestamptz[]) AS gone (wallet_id, hour)
			WHERE h.wallet_id = gone.wallet_id AND h.hour = gone.hour`, w.goneRanges.wallets, w.goneRanges.hours)
		if err != nil {
			return err
		}
	}
	if len(w.goneAmounts.wallets) > 0 {
		_, err := conn.Exec(ctx, `
			DELETE FROM balance_history b
			USING unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[]) AS gone (wallet_id, first, last)
			WHERE b.wallet_id = gone.wallet_id AND b.hour >= gone.first AND b.hour <= gone.last`,
			w.goneAmounts.wallets, w.goneAmounts.first, w.goneAmounts.last)
		if err != nil {
			return err
		}
	}
	r, a := &w.ranges, &w.amounts
	_, err := conn.Exec(ctx, `
		INSERT INTO wallet_history (wallet_id, hour, hours, asset_count, unread, markets_unread, read_at)
		SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::smallint[], $4::integer[], $5::text[], $6::boolean[],
		                     $7::timestamptz[])`,
		r.wallets, r.hours, r.count, r.assets, r.unread, r.markets, r.readAt)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, `
		INSERT INTO balance_history (wallet_id, hour, token_id, amount)
		SELECT id, hour, token, amount::numeric
		FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::text[]) AS b (id, hour, token, amount)`,
		a.wallets, a.hours, a.tokens, a.amounts)
	if err != nil {
		return err
	}
	if err := w.positions.write(ctx, conn); err != nil {
		return err
	}
	return w.writeBlocks(ctx, conn)
}

// writeBlocks writes the blocks of the hours. Most are there already, of another owner: rows that are the same are not
// locked.
func (w *historyWrites) writeBlocks(ctx context.Context, conn *pgx.Conn) error {
	var chains, numbers []int64
	var hours []time.Time
	var hashes [][]byte
	var times []*time.Time
	for _, at := range slices.SortedFunc(maps.Keys(w.blocks), func(a, b history.ChainHour) int {
		return cmp.Or(cmp.Compare(a.Chain, b.Chain), cmp.Compare(a.Hour, b.Hour))
	}) {
		b := w.blocks[at].Block
		chains, hours = append(chains, int64(at.Chain)), append(hours, time.Unix(at.Hour, 0))
		numbers, hashes = append(numbers, int64(b.Number)), append(hashes, b.Hash[:])
		if b.Time.IsZero() {
			times = append(times, nil)
		} else {
			times = append(times, &b.Time)
		}
	}
	_, err := conn.Exec(ctx, `
		WITH read AS (
		  SELECT * FROM unnest($1::bigint[], $2::timestamptz[], $3::bigint[], $4::bytea[], $5::timestamptz[])
		    AS r (chain, hour, block_number, block_hash, block_time))
		INSERT INTO chain_hours (chain, hour, block_number, block_hash, block_time)
		SELECT r.* FROM read r LEFT JOIN chain_hours c ON c.chain = r.chain AND c.hour = r.hour
		WHERE c.chain IS NULL
		   OR (c.block_number, c.block_hash, c.block_time)
		      IS DISTINCT FROM (r.block_number, r.block_hash, r.block_time)
		ORDER BY r.chain, r.hour
		ON CONFLICT (chain, hour) DO UPDATE
		SET block_number = excluded.block_number, block_hash = excluded.block_hash, block_time = excluded.block_time`,
		chains, hours, numbers, hashes, times)
	return err
}
