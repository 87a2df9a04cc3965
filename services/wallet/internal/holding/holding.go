// Package holding joins what wallets hold with what it is worth per token:
// the reading that portfolios are valued from.
package holding

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/services/wallet/internal/price"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

// Row is one balance above zero of a wallet, or the wallet alone when it has
// none.
type Row struct {
	Wallet  wallet.Wallet
	Balance *wallet.Balance
	Quote   price.Quote
	Stale   bool
}

// Cursor is where a page ended.
type Cursor struct {
	Wallet uuid.UUID
	Token  string
}

// Store reads the rows, without prices.
type Store interface {
	// Holdings returns up to limit rows of all the owner's wallets, by wallet
	// and token, after the cursor, in one statement.
	Holdings(ctx context.Context, owner uuid.UUID, after Cursor, limit int) ([]Row, error)
}

// Prices gives quotes.
type Prices interface {
	Quotes(ctx context.Context, ids []string) (map[string]price.Quote, error)
	Stale(q price.Quote) bool
}

// Service reads holdings.
type Service struct {
	store  Store
	prices Prices
	now    func() time.Time
}

// NewService returns the reading over a store and prices.
func NewService(s Store, p Prices, now func() time.Time) *Service {
	return &Service{store: s, prices: p, now: now}
}

// Of returns up to limit rows of what the owner's wallets hold, with prices,
// and the cursor of the next page, nil on the last.
func (s *Service) Of(ctx context.Context, owner uuid.UUID, after Cursor, limit int) ([]Row, *Cursor, error) {
	rows, err := s.store.Holdings(ctx, owner, after, limit+1)
	if err != nil {
		return nil, nil, err
	}
	var next *Cursor
	if len(rows) > limit {
		rows = rows[:limit]
		next = cursorOf(rows[limit-1])
	}
	seen := map[string]bool{}
	var ids []string
	for _, r := range rows {
		if r.Balance != nil && !seen[r.Balance.Token.ID] {
			seen[r.Balance.Token.ID] = true
			ids = append(ids, r.Balance.Token.ID)
		}
	}
	quotes, err := s.prices.Quotes(ctx, ids)
	if err != nil {
		return nil, nil, err
	}
	now := s.now()
	for i := range rows {
		rows[i].Wallet.Sync = rows[i].Wallet.Sync.AsOf(now)
		if b := rows[i].Balance; b != nil {
			rows[i].Quote = quotes[b.Token.ID]
			rows[i].Stale = s.prices.Stale(rows[i].Quote)
		}
	}
	return rows, next, nil
}

func cursorOf(r Row) *Cursor {
	c := Cursor{Wallet: r.Wallet.ID}
	if r.Balance != nil {
		c.Token = r.Balance.Token.ID
	}
	return &c
}
