package rpc

import (
	"slices"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/wallet/internal/caip"
	"github.com/purserhq/purser/services/wallet/internal/history"
	"github.com/purserhq/purser/services/wallet/internal/holding"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

// historyPage is the content of a page of a history, to which hours are added until it is full.
type historyPage struct {
	hours  []*walletv1.HistoricalHoldings
	tokens map[string]*walletv1.Token
	size   int
}

func newHistoryPage() *historyPage { return &historyPage{tokens: map[string]*walletv1.Token{}} }

// fill adds hours until something doesn't fit. It returns the cursor of what is left, nil when all fitted.
func (p *historyPage) fill(hours []history.Hour) *history.Cursor {
	for i := range hours {
		h := &hours[i]
		m := hourToProto(h)
		size := proto.Size(m) + messageOverhead
		if p.size+size > maxHoldingsBytes && i > 0 {
			return &history.Cursor{Hour: h.Time.Unix()}
		}
		p.size += size
		p.hours = append(p.hours, m)
		if n := p.addRows(m, h.Rows, i > 0); n < len(h.Rows) {
			if n == 0 {
				p.hours = p.hours[:i]
				return &history.Cursor{Hour: h.Time.Unix()}
			}
			return history.CursorAt(h.Time, h.Rows[n-1])
		}
	}
	return nil
}

// addRows adds rows to an hour until one doesn't fit, and returns how many: at least one, unless something is on the
// page.
func (p *historyPage) addRows(to *walletv1.HistoricalHoldings, rows []holding.Row, something bool) int {
	var last uuid.UUID
	for i := range rows {
		r := &rows[i]
		size := 0
		var w *walletv1.WalletHoldings
		var h *walletv1.Holding
		var added []*walletv1.Token // that are not on the page yet
		need := func(k token.Token) {
			isAdded := func(a *walletv1.Token) bool { return a.GetId() == k.ID }
			if p.tokens[k.ID] == nil && !slices.ContainsFunc(added, isAdded) {
				added = append(added, tokenToProto(k))
				size += proto.Size(added[len(added)-1]) + messageOverhead
			}
		}
		if i == 0 || r.Wallet.ID != last {
			w = walletHoldings(r.Wallet)
			for j := range r.Positions {
				w.Positions = append(w.Positions, marketToProto(r.Wallet.ID, &r.Positions[j]))
			}
			for _, a := range r.Assets {
				need(a.Token)
			}
			size += proto.Size(w) + messageOverhead
		}
		if r.Balance != nil {
			h = &walletv1.Holding{TokenId: r.Balance.Token.ID, Amount: r.Balance.Amount.Dec(),
				Receipt: r.Balance.Receipt}
			size += proto.Size(h) + messageOverhead
			need(r.Balance.Token)
		}
		if p.size+size > maxHoldingsBytes && (something || i > 0) {
			return i
		}
		p.size += size
		last = r.Wallet.ID
		if w != nil {
			to.Wallets = append(to.Wallets, w)
		}
		for _, t := range added {
			p.tokens[t.Id] = t
		}
		if h != nil {
			of := to.Wallets[len(to.Wallets)-1]
			of.Holdings = append(of.Holdings, h)
		}
	}
	return len(rows)
}

// hourToProto is an hour without its wallets.
func hourToProto(h *history.Hour) *walletv1.HistoricalHoldings {
	m := &walletv1.HistoricalHoldings{HourTime: timestamppb.New(h.Time), OnlyChanges: h.OnlyChanges}
	for _, q := range h.Quotes {
		m.Prices = append(m.Prices, quoteToProto(q))
	}
	for _, b := range h.Blocks {
		found := &walletv1.HistoricalBlock{ChainId: caip.ChainID(b.Chain), BlockNumber: b.Number}
		if b.Time != (time.Time{}) {
			found.BlockTime = timestamppb.New(b.Time)
		}
		m.Blocks = append(m.Blocks, found)
	}
	return m
}
