package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/defi"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

// walletReadings are what a sync read of a wallet's markets at a block.
type walletReadings struct {
	wallet uuid.UUID
	block  block.Block
	all    []defi.Reading
}

// readingsOf are the readings of a sync that succeeded.
func readingsOf(id uuid.UUID, s wallet.Sync, all []defi.Reading) walletReadings {
	r := walletReadings{wallet: id, all: all}
	if s.State != wallet.Synced || s.At == nil {
		r.all = nil
	} else {
		r.block = block.Block{Number: s.Block, Time: *s.At}
	}
	return r
}

// andPositions stores positions, and adds the wallets of which they changed to those of which balances did.
func andPositions(ctx context.Context, conn *pgx.Conn, changed []changedWallet,
	read ...walletReadings) ([]changedWallet, error) {
	more, err := savePositions(ctx, conn, read)
	for _, m := range more {
		if !slices.ContainsFunc(changed, func(c changedWallet) bool { return c.ID == m.ID }) {
			changed = append(changed, m)
		}
	}
	return changed, err
}

// savePositions stores the positions of wallets, in a number of statements that doesn't grow with them, and marks the
// balances that they stand for. It returns the wallets of which a position began, ended or changed. The caller has
// locked the wallets and stored their syncs and balances: a wallet whose last stored sync is of another block has been
// synced at a newer one meanwhile, and is left alone.
//
// Of a market all of which was read the positions become those that were read. Of one of which something is missing
// those that were read are stored, those that ended are removed, and the others hold on. A market that is not among
// the readings is no longer in the setting, and goes.
func savePositions(ctx context.Context, conn *pgx.Conn, read []walletReadings) (changed []changedWallet, err error) {
	if read, err = newestReadings(ctx, conn, read); err != nil || len(read) == 0 {
		return nil, err
	}
	numbers := map[uuid.UUID]int64{}
	ids := make([]uuid.UUID, len(read))
	for i, r := range read {
		ids[i], numbers[r.wallet] = r.wallet, int64(r.block.Number)
	}
	if err = saveMarkets(ctx, conn, read); err != nil {
		return nil, fmt.Errorf("store markets: %w", err)
	}
	moved, err := upsertPositions(ctx, conn, ids, read)
	if err != nil {
		return nil, fmt.Errorf("store positions: %w", err)
	}
	gone, err := endPositions(ctx, conn, ids, read)
	if err != nil {
		return nil, fmt.Errorf("end positions: %w", err)
	}
	_, err = conn.Exec(ctx, `
		DELETE FROM position_markets m
		WHERE m.wallet_id = ANY($1) AND (m.market <> ALL($2) OR m.missing = '' AND NOT EXISTS (
		  SELECT FROM positions p WHERE p.wallet_id = m.wallet_id AND p.market = m.market))`, ids, namesOf(read))
	if err == nil {
		_, err = conn.Exec(ctx, `
		UPDATE balances b SET receipt = NOT b.receipt
		WHERE b.wallet_id = ANY($1) AND b.receipt <> EXISTS (
		  SELECT FROM positions p WHERE p.wallet_id = b.wallet_id AND p.receipt = b.token_id)`, ids)
	}
	if err != nil {
		return nil, fmt.Errorf("store positions: %w", err)
	}
	moved = append(moved, gone...)
	slices.SortFunc(moved, func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
	for _, id := range slices.Compact(moved) {
		changed = append(changed, changedWallet{id, numbers[id]})
	}
	return changed, nil
}

// newestReadings returns those whose block is that of the wallet's last stored sync.
func newestReadings(ctx context.Context, conn *pgx.Conn, read []walletReadings) ([]walletReadings, error) {
	read = slices.DeleteFunc(read, func(r walletReadings) bool { return len(r.all) == 0 })
	if len(read) == 0 {
		return nil, nil
	}
	ids, numbers, times := make([]uuid.UUID, len(read)), make([]int64, len(read)), make([]time.Time, len(read))
	for i, r := range read {
		ids[i], numbers[i], times[i] = r.wallet, int64(r.block.Number), r.block.Time
	}
	rows, err := conn.Query(ctx, `
		SELECT w.id FROM unnest($1::uuid[], $2::bigint[], $3::timestamptz[]) AS i (id, number, at)
		JOIN wallets w ON w.id = i.id AND w.synced_block = i.number AND w.synced_at = i.at`, ids, numbers, times)
	if err != nil {
		return nil, fmt.Errorf("compare syncs: %w", err)
	}
	newest, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	return slices.DeleteFunc(read, func(r walletReadings) bool { return !slices.Contains(newest, r.wallet) }), err
}

// namesOf are the markets that were read.
func namesOf(read []walletReadings) (names []string) {
	for _, r := range read {
		for _, m := range r.all {
			if name := m.String(); !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// saveMarkets stores what there is of each market in which a wallet has something or of which something is missing.
// The stored account of a market that could not be read stays.
func saveMarkets(ctx context.Context, conn *pgx.Conn, read []walletReadings) error {
	var c marketColumns
	var wallets []uuid.UUID
	var markets, missing []string
	for _, r := range read {
		for i := range r.all {
			m := &r.all[i]
			wallets, markets = append(wallets, r.wallet), append(markets, m.String())
			if missing = append(missing, m.Missing); m.Missing != "" || m.HasAny() {
				c.add(r.wallet, r.block, m)
			}
		}
	}
	_, err := conn.Exec(ctx, `
		INSERT INTO position_markets AS m (wallet_id, market, missing, collateral, debt, account_unit, threshold,
		                                   health, has_debt, e_mode, block_number, block_time)
		SELECT wallet, market, missing, collateral::numeric, debt::numeric, unit::numeric, threshold::numeric,
		       health::numeric, has_debt, e_mode, block, at
		FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
		            $9::boolean[], $10::smallint[], $11::bigint[], $12::timestamptz[])
		  AS i (wallet, market, missing, collateral, debt, unit, threshold, health, has_debt, e_mode, block, at)
		ORDER BY wallet, market
		ON CONFLICT (wallet_id, market) DO UPDATE
		SET missing = excluded.missing, collateral = excluded.collateral, debt = excluded.debt,
		    account_unit = excluded.account_unit, threshold = excluded.threshold, health = excluded.health,
		    has_debt = excluded.has_debt, e_mode = excluded.e_mode, block_number = excluded.block_number,
		    block_time = excluded.block_time
		WHERE excluded.missing = '' OR excluded.account_unit IS NOT NULL`,
		c.wallets, c.markets, c.missing, c.collaterals, c.debts, c.units, c.thresholds, c.healths, c.hasDebts, c.modes,
		c.numbers, c.times)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, `
		UPDATE position_markets m SET missing = i.missing
		FROM unnest($1::uuid[], $2::text[], $3::text[]) AS i (wallet, market, missing)
		WHERE m.wallet_id = i.wallet AND m.market = i.market AND m.missing <> i.missing`, wallets, markets, missing)
	return err
}

// marketColumns are markets of wallets by column. What is of an account is NULL without one.
type marketColumns struct {
	wallets                                        []uuid.UUID
	markets, missing                               []string
	collaterals, debts, units, thresholds, healths []*string
	hasDebts                                       []*bool
	modes                                          []*int16
	numbers                                        []int64
	times                                          []time.Time
}

func (c *marketColumns) add(wallet uuid.UUID, at block.Block, m *defi.Reading) {
	var collateral, debt, unit, threshold, health *string
	var hasDebt *bool
	var mode *int16
	if a := m.Account; a != nil {
		collateral, debt, unit = new(a.Collateral.Dec()), new(a.Debt.Dec()), new(a.Unit.Dec())
		threshold, hasDebt, mode = &a.Threshold, &a.HasDebt, new(int16(a.EMode))
		if a.Health != "" {
			health = &a.Health
		}
	}
	c.wallets, c.markets = append(c.wallets, wallet), append(c.markets, m.String())
	c.missing, c.collaterals, c.debts = append(c.missing, m.Missing), append(c.collaterals, collateral),
		append(c.debts, debt)
	c.units, c.thresholds = append(c.units, unit), append(c.thresholds, threshold)
	c.healths, c.hasDebts, c.modes = append(c.healths, health), append(c.hasDebts, hasDebt), append(c.modes, mode)
	c.numbers, c.times = append(c.numbers, int64(at.Number)), append(c.times, at.Time)
}

// positionColumns are positions by column.
type positionColumns struct {
	wallets                       []uuid.UUID
	markets, kinds, modes, assets []string
	amounts, receipts, rates      []string
	indexes                       []string
	collaterals                   []bool
	numbers                       []int64
	times                         []time.Time
}

func (c *positionColumns) add(wallet uuid.UUID, at block.Block, market string, p *defi.Position) {
	c.wallets, c.markets = append(c.wallets, wallet), append(c.markets, market)
	c.kinds = append(c.kinds, string(p.Kind))
	c.modes, c.assets = append(c.modes, string(p.Mode)), append(c.assets, p.Asset)
	c.amounts, c.receipts = append(c.amounts, p.Amount.Dec()), append(c.receipts, p.Receipt)
	c.rates, c.indexes = append(c.rates, p.YearlyRate), append(c.indexes, p.GrowthIndex.Dec())
	c.collaterals = append(c.collaterals, p.Collateral)
	c.numbers, c.times = append(c.numbers, int64(at.Number)), append(c.times, at.Time)
}

// upsertPositions stores those that have not ended. It returns the wallets of which an amount is new or another.
func upsertPositions(ctx context.Context, conn *pgx.Conn, ids []uuid.UUID, read []walletReadings) ([]uuid.UUID,
	error) {
	var c positionColumns
	for _, r := range read {
		for _, m := range r.all {
			for i := range m.Positions {
				if p := &m.Positions[i]; !p.Ended {
					c.add(r.wallet, r.block, m.String(), p)
				}
			}
		}
	}
	if len(c.wallets) == 0 {
		return nil, nil
	}
	rows, err := conn.Query(ctx, `
		WITH before AS (
		  SELECT wallet_id, market, kind, rate_mode, asset, amount FROM positions WHERE wallet_id = ANY($1)),
		stored AS (
		  INSERT INTO positions (wallet_id, market, kind, rate_mode, asset, amount, receipt, yearly_rate, growth_index,
		                         collateral, block_number, block_time)
		  SELECT wallet, market, kind, mode, asset, amount::numeric, receipt, rate, index::numeric, collateral, block,
		         at
		  FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
		              $10::text[], $11::boolean[], $12::bigint[], $13::timestamptz[])
		    AS i (wallet, market, kind, mode, asset, amount, receipt, rate, index, collateral, block, at)
		  ORDER BY wallet, market, kind, mode, asset
		  ON CONFLICT (wallet_id, market, kind, rate_mode, asset) DO UPDATE
		  SET amount = excluded.amount, receipt = excluded.receipt, yearly_rate = excluded.yearly_rate,
		      growth_index = excluded.growth_index, collateral = excluded.collateral,
		      block_number = excluded.block_number, block_time = excluded.block_time
		  RETURNING wallet_id, market, kind, rate_mode, asset, amount)
		SELECT DISTINCT wallet_id FROM stored s LEFT JOIN before b USING (wallet_id, market, kind, rate_mode, asset)
		WHERE b.amount IS DISTINCT FROM s.amount`, ids, c.wallets, c.markets, c.kinds, c.modes, c.assets, c.amounts,
		c.receipts, c.rates, c.indexes, c.collaterals, c.numbers, c.times)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
}

// endPositions removes those that ended, those of a market all of which was read that were not among what was read,
// and those of markets that were not read. It returns their wallets.
func endPositions(ctx context.Context, conn *pgx.Conn, ids []uuid.UUID, read []walletReadings) ([]uuid.UUID, error) {
	var ended, kept positionColumns
	var wholeWallets []uuid.UUID
	var wholeMarkets []string
	for _, r := range read {
		for _, m := range r.all {
			name := m.String()
			if m.Missing == "" {
				wholeWallets, wholeMarkets = append(wholeWallets, r.wallet), append(wholeMarkets, name)
			}
			for i := range m.Positions {
				switch p := &m.Positions[i]; {
				case m.Missing == "" && !p.Ended:
					kept.add(r.wallet, r.block, name, p)
				case m.Missing != "" && p.Ended:
					ended.add(r.wallet, r.block, name, p)
				}
			}
		}
	}
	rows, err := conn.Query(ctx, `
		DELETE FROM positions p WHERE wallet_id = ANY($1) AND (
		  (wallet_id, market) IN (SELECT * FROM unnest($2::uuid[], $3::text[]))
		  AND (wallet_id, market, kind, rate_mode, asset) NOT IN (
		    SELECT * FROM unnest($4::uuid[], $5::text[], $6::text[], $7::text[], $8::text[]))
		  OR (wallet_id, market, kind, rate_mode, asset) IN (
		    SELECT * FROM unnest($9::uuid[], $10::text[], $11::text[], $12::text[], $13::text[]))
		  OR market <> ALL($14))
		RETURNING wallet_id`, ids, wholeWallets, wholeMarkets, kept.wallets, kept.markets, kept.kinds, kept.modes,
		kept.assets, ended.wallets, ended.markets, ended.kinds, ended.modes, ended.assets,
		namesOf(read))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
}
