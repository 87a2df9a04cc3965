package store

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/defi"
)

// marketJSON is a row m of position_markets with its positions, as marketRow reads it.
const marketJSON = `jsonb_build_object('market', m.market, 'missing', m.missing, 'collateral', m.collateral::text,
	'debt', m.debt::text, 'unit', m.account_unit::text, 'threshold', m.threshold::text, 'health', m.health::text,
	'has_debt', m.has_debt, 'e_mode', m.e_mode, 'block', m.block_number, 'time', m.block_time, 'positions', (
	  SELECT jsonb_agg(jsonb_build_object('kind', p.kind, 'mode', p.rate_mode, 'asset', p.asset,
	    'amount', p.amount::text, 'receipt', p.receipt, 'rate', p.yearly_rate, 'index', p.growth_index::text,
	    'collateral', p.collateral,
	    'block', p.block_number, 'time', p.block_time) ORDER BY p.kind, p.rate_mode, p.asset)
	  FROM positions p WHERE p.wallet_id = m.wallet_id AND p.market = m.market))`

// marketsJSON are all of those of a row w of wallets; NULL without any.
const marketsJSON = `(SELECT jsonb_agg(` + marketJSON + ` ORDER BY m.market)::text
	FROM position_markets m WHERE m.wallet_id = w.id)`

type marketRow struct {
	Market     string        `json:"market"`
	Missing    string        `json:"missing,omitempty"`
	Collateral string        `json:"collateral,omitempty"`
	Debt       string        `json:"debt,omitempty"`
	Unit       string        `json:"unit,omitempty"` // "" without an account
	Threshold  string        `json:"threshold,omitempty"`
	Health     string        `json:"health,omitempty"`
	HasDebt    bool          `json:"has_debt,omitempty"`
	EMode      uint64        `json:"e_mode,omitempty"`
	Block      uint64        `json:"block,omitempty"`
	Time       time.Time     `json:"time,omitzero"`
	Positions  []positionRow `json:"positions"`
}

type positionRow struct {
	Kind       defi.Kind     `json:"kind"`
	Mode       defi.RateMode `json:"mode,omitempty"`
	Asset      string        `json:"asset"`
	Amount     string        `json:"amount"`
	Receipt    string        `json:"receipt,omitempty"`
	Rate       string        `json:"rate,omitempty"`
	Index      string        `json:"index,omitempty"`
	Collateral bool          `json:"collateral,omitempty"`
	Block      uint64        `json:"block,omitempty"`
	Time       time.Time     `json:"time,omitzero"`
}

func (r *marketRow) reading() (out defi.Reading, err error) {
	out.Missing = r.Missing
	if out.Market, err = defi.ParseMarket(r.Market); err != nil {
		return out, fmt.Errorf("market %q in the database: %w", r.Market, err)
	}
	if r.Unit != "" {
		a := &defi.Account{Threshold: r.Threshold, Health: r.Health, HasDebt: r.HasDebt, EMode: r.EMode,
			Block: block.Block{Number: r.Block, Time: r.Time}}
		if a.Collateral, err = amount(r.Collateral); err == nil {
			a.Debt, err = amount(r.Debt)
		}
		if err == nil {
			a.Unit, err = amount(r.Unit)
		}
		if err != nil {
			return out, err
		}
		out.Account = a
	}
	for _, p := range r.Positions {
		n, err := amount(p.Amount)
		if err != nil {
			return out, err
		}
		index, err := amount(cmp.Or(p.Index, "0"))
		if err != nil {
			return out, err
		}
		out.Positions = append(out.Positions, defi.Position{Kind: p.Kind, Mode: p.Mode, Asset: p.Asset, Amount: n,
			Receipt: p.Receipt, YearlyRate: p.Rate, GrowthIndex: index, Collateral: p.Collateral,
			Block: block.Block{Number: p.Block, Time: p.Time}})
	}
	return out, nil
}

// readingsFrom reads marketsJSON, which may be nil.
func readingsFrom(text *string) ([]defi.Reading, error) {
	if text == nil {
		return nil, nil
	}
	var rows []marketRow
	if err := json.Unmarshal([]byte(*text), &rows); err != nil {
		return nil, fmt.Errorf("positions in the database: %w", err)
	}
	out := make([]defi.Reading, len(rows))
	for i := range rows {
		var err error
		if out[i], err = rows[i].reading(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// pastJSON is what position_history has of readings, which are of the block of their hour.
func pastJSON(readings []defi.Reading) (string, error) {
	rows := make([]marketRow, len(readings))
	for i := range readings {
		r := &readings[i]
		rows[i] = marketRow{Market: r.String(), Missing: r.Missing}
		if a := r.Account; a != nil {
			rows[i].Collateral, rows[i].Debt, rows[i].Unit = a.Collateral.Dec(), a.Debt.Dec(), a.Unit.Dec()
			rows[i].Threshold, rows[i].Health = a.Threshold, a.Health
			rows[i].HasDebt, rows[i].EMode = a.HasDebt, a.EMode
		}
		for _, p := range r.Positions {
			rows[i].Positions = append(rows[i].Positions, positionRow{Kind: p.Kind, Mode: p.Mode, Asset: p.Asset,
				Amount: p.Amount.Dec(), Receipt: p.Receipt, Rate: p.YearlyRate, Index: p.GrowthIndexText(),
				Collateral: p.Collateral})
		}
		slices.SortFunc(rows[i].Positions, func(a, b positionRow) int {
			return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Mode, b.Mode), cmp.Compare(a.Asset, b.Asset))
		})
	}
	slices.SortFunc(rows, func(a, b marketRow) int { return cmp.Compare(a.Market, b.Market) })
	text, err := json.Marshal(rows)
	return string(text), err
}

// Positions implements defi.Lister.
func (s *Wallets) Positions(ctx context.Context, owner uuid.UUID, f defi.Filter, after defi.Cursor,
	limit int) ([]defi.Held, error) {
	if f.Wallet != uuid.Nil {
		if _, err := s.ByID(ctx, owner, f.Wallet); err != nil {
			return nil, err
		}
	}
	var rows []struct {
		WalletID uuid.UUID
		Market   string
	}
	err := s.db.Gorm(ctx).Raw(`
		SELECT m.wallet_id, `+marketJSON+`::text AS market FROM wallets w JOIN position_markets m ON m.wallet_id = w.id
		WHERE w.owner_id = @owner AND (m.wallet_id, m.market) > (@after, @market)
		  AND (w.id = @wallet OR @wallet = '00000000-0000-0000-0000-000000000000' AND w.archived_at IS NULL)
		  AND (@protocol = '' OR split_part(m.market, '@', 1) = @protocol)
		ORDER BY m.wallet_id, m.market LIMIT @limit`, map[string]any{"owner": owner, "after": after.Wallet,
		"market": after.Market, "wallet": f.Wallet, "protocol": f.Protocol, "limit": limit}).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("list positions: %w", err)
	}
	held := make([]defi.Held, len(rows))
	for i, row := range rows {
		var m marketRow
		if err := json.Unmarshal([]byte(row.Market), &m); err != nil {
			return nil, fmt.Errorf("positions in the database: %w", err)
		}
		held[i].Wallet = row.WalletID
		if held[i].Reading, err = m.reading(); err != nil {
			return nil, err
		}
	}
	return held, nil
}
