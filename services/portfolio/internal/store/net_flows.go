package store

import (
	"context"
	"fmt"
	"math/big"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/jackc/pgx/v5"

	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// lockPortfolio lets one transaction after the other store snapshots of a portfolio:
// the positions and the net flow of a snapshot depend on the one before, which another
// transaction may be storing. Reads don't wait for it.
const lockPortfolio = `SELECT FROM portfolios WHERE id = $1 FOR NO KEY UPDATE`

const updateNetFlows = `
UPDATE snapshots s SET net_flow = f.net_flow::numeric
FROM unnest($2::timestamptz[], $3::text[]) AS f (bucket, net_flow)
WHERE s.portfolio_id = $1 AND s.bucket = f.bucket`

// setNetFlows sets the net flows that the stored snapshots of the window change: their own,
// and those of the next measurable snapshot after each, in the table and in their rows.
func (w *window) setNetFlows(ctx context.Context, conn *pgx.Conn) error {
	touched, before := w.touched()
	values, err := w.values(ctx, conn, touched, before)
	if err != nil {
		return err
	}
	var buckets []time.Time
	var flows []*string
	for i, now := range touched {
		s := &w.snapshots[now]
		var flow *string
		if before[i] >= 0 {
			net, err := netFlow(s.total, values[now], values[before[i]])
			if err != nil {
				return fmt.Errorf("net flow of %s: %w", s.bucket, err)
			}
			text := net.Text('f')
			flow = &text
		}
		if s.candidate != nil {
			s.candidate.row.NetFlow = flow
		}
		same, err := sameFlow(s.netFlow, flow)
		if err != nil {
			return err
		}
		if !same {
			buckets, flows = append(buckets, s.bucket), append(flows, flow)
		}
	}
	if len(buckets) == 0 {
		return nil
	}
	if _, err := conn.Exec(ctx, updateNetFlows, w.portfolio, buckets, flows); err != nil {
		return fmt.Errorf("update net flows: %w", err)
	}
	return nil
}

// touched returns the measurable snapshots whose net flow may have changed, and the
// measurable one before each, -1 for none.
func (w *window) touched() (touched, before []int) {
	last, pending := -1, false // pending: a snapshot since the last measurable one was stored
	for i := range w.snapshots {
		s := &w.snapshots[i]
		stored := s.candidate != nil
		if s.measurable {
			if stored || pending {
				touched, before = append(touched, i), append(before, last)
			}
			last, pending = i, stored
			continue
		}
		pending = pending || stored
	}
	return touched, before
}

// values returns the valued positions of the snapshots by their index.
func (w *window) values(ctx context.Context, conn *pgx.Conn, touched, before []int) (map[int][]valuation.Position,
	error) {
	values := make(map[int][]valuation.Position)
	var wanted []assetHour
	var seqs []int64
	var unpriced []int
	for _, list := range [][]int{touched, before} {
		for _, i := range list {
			if _, ok := values[i]; ok || i < 0 {
				continue
			}
			s := &w.snapshots[i]
			if s.candidate != nil {
				values[i] = s.candidate.positions
				continue
			}
			values[i] = nil
			unpriced = append(unpriced, i)
			for id := range s.held {
				wanted, seqs = append(wanted, assetHour{id, s.bucket.Unix()}), append(seqs, s.priceSeq)
			}
		}
	}
	if len(wanted) == 0 {
		return values, nil
	}
	prices, err := readHourPrices(ctx, conn, wanted, seqs)
	if err != nil {
		return nil, err
	}
	for _, i := range unpriced {
		s := &w.snapshots[i]
		var positions []valuation.Position
		for id, text := range s.held {
			a := w.assets[id]
			amount, ok := new(big.Int).SetString(text, 10)
			if !ok {
				return nil, fmt.Errorf("amount of %s in the database: %q", a.tokenID, text)
			}
			positions = append(positions, valuation.Position{TokenID: a.tokenID, Symbol: a.symbol, Decimals: a.decimals,
				Verified: a.verified, Amount: amount, Price: prices.byHour[assetHour{id, s.bucket.Unix()}]})
		}
		v, err := (valuation.Assets{At: s.bucket, Positions: positions}).Value()
		if err != nil {
			return nil, err
		}
		values[i] = v.Positions
	}
	return values, nil
}

// netFlow is the total less what was held before, at the prices of now. A token whose
// amount didn't change is worth its value, so that the flow is exactly 0; one that is
// gone or has no price any more counts at its last value.
func netFlow(total string, now, before []valuation.Position) (*apd.Decimal, error) {
	flow, err := parseDecimal(total)
	if err != nil {
		return nil, err
	}
	current := make(map[string]valuation.Position, len(now))
	for _, p := range now {
		// Of two of one token, whose name has changed, the counted one has its price.
		if c, ok := current[p.TokenID]; !ok || c.Value == nil {
			current[p.TokenID] = p
		}
	}
	for _, held := range before {
		if !held.Counted() {
			continue
		}
		worth := held.Value
		if p := current[held.TokenID]; p.Value != nil {
			worth = p.Value
			if p.Amount.Cmp(held.Amount) != 0 {
				if worth, err = valuation.Worth(held.Amount, held.Decimals, p.Price.Amount); err != nil {
					return nil, err
				}
			}
		}
		if flow, err = valuation.Subtract(flow, worth); err != nil {
			return nil, err
		}
	}
	return flow, nil
}

func sameFlow(a, b *string) (bool, error) {
	if a == nil || b == nil {
		return a == b, nil
	}
	x, err := parseDecimal(*a)
	if err != nil {
		return false, err
	}
	y, err := parseDecimal(*b)
	return err == nil && x.Cmp(y) == 0, err
}
