package store

import (
	"context"
	"fmt"
	"maps"
	"math/big"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

const updateNetFlows = `
UPDATE snapshots s SET net_flow = f.net_flow::numeric
FROM unnest($1::uuid[], $2::timestamptz[], $3::text[]) AS f (portfolio_id, bucket, net_flow)
WHERE s.portfolio_id = f.portfolio_id AND s.bucket = f.bucket`

// flow is a net flow to be computed: that of a snapshot since the measurable one before it,
// nil for none.
type flow struct {
	portfolio   uuid.UUID
	now, before *storedSnapshot
}

// setNetFlows sets the net flows that the stored snapshots of the windows change: their own,
// and those of the next measurable snapshot after each, in the table and in their rows.
func (w *windows) setNetFlows(ctx context.Context, conn *pgx.Conn) error {
	flows := w.flows()
	values, err := w.values(ctx, conn, flows)
	if err != nil {
		return err
	}
	var portfolios []uuid.UUID
	var buckets []time.Time
	var texts []*string
	for _, f := range flows {
		text, err := f.compute(values)
		if err != nil {
			return fmt.Errorf("net flow of %s: %w", f.now.bucket, err)
		}
		if f.now.candidate != nil {
			f.now.candidate.row.NetFlow = text
		}
		same, err := sameFlow(f.now.netFlow, text)
		if err != nil {
			return err
		}
		if !same {
			portfolios, buckets = append(portfolios, f.portfolio), append(buckets, f.now.bucket)
			texts = append(texts, text)
		}
	}
	if len(buckets) == 0 {
		return nil
	}
	if _, err := conn.Exec(ctx, updateNetFlows, portfolios, buckets, texts); err != nil {
		return fmt.Errorf("update net flows: %w", err)
	}
	return nil
}

// flows returns the net flows that may have changed.
func (w *windows) flows() (flows []flow) {
	for id, of := range w.of {
		var last *storedSnapshot
		pending := false // a snapshot since the last measurable one was stored
		for i := range of.snapshots {
			s := &of.snapshots[i]
			stored := s.candidate != nil || s.flipped
			if !s.measurable {
				pending = pending || stored
				continue
			}
			if stored || pending {
				flows = append(flows, flow{id, s, last})
			}
			last, pending = s, stored
		}
	}
	return flows
}

// isZero reports whether the flow is 0 whatever the prices are: every position is priced,
// and none has changed.
func (f flow) isZero() bool {
	return f.before != nil && f.now.unpriced == 0 && f.before.unpriced == 0 && maps.Equal(f.now.held, f.before.held)
}

// compute returns the flow, nil for one without a snapshot before.
func (f flow) compute(values map[*storedSnapshot][]valuation.Position) (*string, error) {
	if f.before == nil {
		return nil, nil //nolint:nilnil // the first one has none
	}
	text := "0"
	if f.isZero() {
		return &text, nil
	}
	net, err := netFlow(values[f.now], values[f.before], f.now.bucket.Sub(f.before.bucket),
		f.now.membership == f.before.membership)
	if err != nil {
		return nil, err
	}
	text = net.Text('f')
	return &text, nil
}

// values returns the valued positions of the snapshots that flows are between.
func (w *windows) values(ctx context.Context, conn *pgx.Conn, flows []flow) (map[*storedSnapshot][]valuation.Position,
	error) {
	values := make(map[*storedSnapshot][]valuation.Position)
	wanted := make(map[priceKey]bool)
	for _, f := range flows {
		if f.before == nil || f.isZero() {
			continue
		}
		for _, s := range []*storedSnapshot{f.now, f.before} {
			if _, ok := values[s]; ok {
				continue
			}
			if s.candidate != nil {
				values[s] = s.candidate.positions
				continue
			}
			values[s] = nil
			for id := range s.held {
				wanted[s.priceOf(id.asset)] = true
			}
		}
	}
	if len(wanted) == 0 {
		return values, nil
	}
	prices, err := readHourPrices(ctx, conn, wanted)
	if err != nil {
		return nil, err
	}
	for s := range values {
		if s.candidate == nil {
			if values[s], err = w.valuesOf(s, prices); err != nil {
				return nil, err
			}
		}
	}
	return values, nil
}

// priceOf names the price of an asset in the snapshot.
func (s *storedSnapshot) priceOf(id int32) priceKey {
	return priceKey{assetHour{id, s.bucket.Unix()}, s.priceSeq}
}

// valuesOf values the positions of a snapshot that was stored before.
func (w *windows) valuesOf(s *storedSnapshot, prices hourPrices) ([]valuation.Position, error) {
	var positions []valuation.Position
	for id, text := range s.held {
		a := w.assets[id.asset]
		amount, ok := new(big.Int).SetString(text, 10)
		if !ok {
			return nil, fmt.Errorf("amount of %s in the database: %q", a.tokenID, text)
		}
		positions = append(positions, valuation.Position{TokenID: a.tokenID, Symbol: a.symbol, Decimals: a.decimals,
			Verified: a.verified, Place: w.places[id.place], Amount: amount, Price: prices.of[s.priceOf(id.asset)]})
	}
	v, err := (valuation.Assets{At: s.bucket, Positions: positions}).Value()
	return v.Positions, err
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
