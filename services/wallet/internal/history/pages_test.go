package history_test

import (
	"bytes"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/services/wallet/internal/history"
	"github.com/purserhq/purser/services/wallet/internal/holding"
	"github.com/purserhq/purser/services/wallet/internal/price"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

// pageView puts the hours of pages together, as a caller does. Several callers can have a page each at the same time,
// and one of them more.
type pageView struct {
	mu      sync.Mutex
	hour    time.Time // of the wallets
	wallets []uuid.UUID
	rowsOf  map[uuid.UUID][]holding.Row
	given   int // rows on the last page
}

// rows returns those of the hours of a page that was asked for with a cursor: of each wallet, also of one that is as
// in the hour before. Next is the cursor of the next page.
func (v *pageView) rows(page history.Page, after history.Cursor, next *history.Cursor) (out []history.Row) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.given = 0
	for _, h := range page.Hours {
		v.given += len(h.Rows)
		part := h.Time.Equal(v.hour) && after.Hour == h.Time.Unix() && after.Wallet != uuid.Nil
		if !h.OnlyChanges && !part {
			v.wallets, v.rowsOf = nil, map[uuid.UUID][]holding.Row{}
		}
		v.hour = h.Time
		var told []uuid.UUID
		for _, r := range h.Rows {
			if part && r.Wallet.ID == after.Wallet || slices.Contains(told, r.Wallet.ID) {
				v.rowsOf[r.Wallet.ID] = append(v.rowsOf[r.Wallet.ID], r)
			} else {
				v.rowsOf[r.Wallet.ID] = []holding.Row{r}
			}
			told = append(told, r.Wallet.ID)
			if !slices.Contains(v.wallets, r.Wallet.ID) {
				v.wallets = append(v.wallets, r.Wallet.ID)
			}
		}
		slices.SortFunc(v.wallets, func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
		for _, id := range v.wallets {
			rows := v.rowsOf[id]
			switch c := bytes.Compare(id[:], after.Wallet[:]); {
			case part && c < 0, part && c == 0 && !slices.Contains(told, id):
				continue // they were there with the page before
			case next != nil && next.Hour == h.Time.Unix() && next.Wallet != uuid.Nil &&
				bytes.Compare(id[:], next.Wallet[:]) > 0:
				continue // the next page tells of them
			case part && c == 0:
				rows = slices.DeleteFunc(slices.Clone(h.Rows), func(r holding.Row) bool { return r.Wallet.ID != id })
			}
			for _, r := range rows {
				out = append(out, rowAt(h, r, slices.Contains(told, id)))
			}
		}
	}
	return out
}

// rowAt is a row as of an hour, which told of its wallet or didn't.
func rowAt(h history.Hour, r holding.Row, told bool) history.Row {
	w := *r.Wallet
	r.Wallet = &w
	if s := &w.Sync; !told && s.State == wallet.Synced {
		for _, b := range h.Blocks {
			if b.Chain == r.Wallet.Account.Chain {
				s.Block, s.At = b.Number, &b.Time
			}
		}
	}
	if r.Balance != nil {
		i := slices.IndexFunc(h.Quotes, func(q price.Quote) bool { return q.TokenID == r.Balance.Token.ID })
		r.Quote = h.Quotes[i]
	}
	return history.Row{Hour: h.Time, Row: r}
}
