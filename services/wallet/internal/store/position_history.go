package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/purserhq/purser/services/wallet/internal/defi"
	"github.com/purserhq/purser/services/wallet/internal/history"
)

// pastPositions are rows of position_history to be written, and the hours whose rows they replace.
type pastPositions struct {
	read struct {
		wallets [][16]byte
		hours   []time.Time
	}
	wallets [][16]byte
	hours   []time.Time
	markets []string // as JSON
}

// add adds the hours of a wallet of which positions were asked for.
func (p *pastPositions) add(id uuid.UUID, hours []history.HourBalances) error {
	for i := range hours {
		h := &hours[i]
		if h.Positions == nil {
			continue
		}
		at := time.Unix(h.Hour, 0)
		p.read.wallets, p.read.hours = append(p.read.wallets, id), append(p.read.hours, at)
		if len(h.Positions) == 0 {
			continue
		}
		text, err := pastJSON(h.Positions)
		if err != nil {
			return fmt.Errorf("positions of wallet %s: %w", id, err)
		}
		p.wallets, p.hours, p.markets = append(p.wallets, id), append(p.hours, at), append(p.markets, text)
	}
	return nil
}

func (p *pastPositions) write(ctx context.Context, conn *pgx.Conn) error {
	if len(p.read.wallets) == 0 {
		return nil
	}
	_, err := conn.Exec(ctx, `
		DELETE FROM position_history p USING unnest($1::uuid[], $2::timestamptz[]) AS r (wallet_id, hour)
		WHERE p.wallet_id = r.wallet_id AND p.hour = r.hour`, p.read.wallets, p.read.hours)
	if err != nil || len(p.wallets) == 0 {
		return err
	}
	_, err = conn.Exec(ctx, `
		INSERT INTO position_history (wallet_id, hour, markets)
		SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::jsonb[])`, p.wallets, p.hours, p.markets)
	return err
}

// readPastPositions adds the positions of wallets in hours of [from, until).
func readPastPositions(ctx context.Context, conn *pgx.Conn, wallets map[uuid.UUID]*history.WalletPast,
	ids [][16]byte, from, until time.Time) error {
	rows, err := conn.Query(ctx, `
		SELECT wallet_id, hour, markets::text FROM position_history
		WHERE wallet_id = ANY($1::uuid[]) AND hour >= $2 AND hour < $3`, ids, from, until)
	if err != nil {
		return err
	}
	var id [16]byte
	var hour time.Time
	var text string
	_, err = pgx.ForEachRow(rows, []any{&id, &hour, &text}, func() (err error) {
		w := wallets[id]
		if w.Positions == nil {
			w.Positions = map[int64][]defi.Reading{}
		}
		w.Positions[hour.Unix()], err = readingsFrom(&text)
		return err
	})
	return err
}
