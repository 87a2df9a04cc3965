// Package holding lists what wallets hold, with the price of each token.
// Portfolios are valued from it.
package holding

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/services/wallet/internal/defi"
	"github.com/purserhq/purser/services/wallet/internal/price"
	"github.com/purserhq/purser/services/wallet/internal/token"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

// Row is one balance above zero of a wallet, or the wallet alone when it has
// none.
type Row struct {
	Wallet  *wallet.Wallet // the same one in all rows of a wallet that follow each other
	Balance *wallet.Balance
	// Quote of the balance's token; zero without a balance.
	Quote price.Quote
	// Positions of the wallet in markets, at its first row, and the assets of them that are known.
	Positions []defi.Reading
	Assets    []Asset
}

// Asset is what a position is in.
type Asset struct {
	Token token.Token
	Quote price.Quote
}

// KnownAssets are the assets of positions that are among tokens, without quotes.
func KnownAssets(positions []defi.Reading, tokens map[string]token.Token) (assets []Asset) {
	for id := range defi.Assets(positions) {
		if t, known := tokens[id]; known {
			assets = append(assets, Asset{Token: t})
		}
	}
	return assets
}

// Cursor is the last row of a page.
type Cursor struct {
	Wallet uuid.UUID
	Token  string
}

// ShardCursor is the last row that was read of a shard.
type ShardCursor struct {
	Owner uuid.UUID
	Cursor
}

// Store has the balances.
type Store interface {
	// Holdings returns up to limit rows of all the owner's wallets without quotes,
	// after the cursor, by wallet and token, as of one moment.
	Holdings(ctx context.Context, owner uuid.UUID, after Cursor, limit int) ([]Row, error)
	// ShardHoldings returns up to limit rows of the wallets of the owners whose id has a last byte with the remainder
	// shard when divided by shards, without quotes, after the cursor, by owner, wallet and token, from one statement
	// that reads no more than about limit rows.
	ShardHoldings(ctx context.Context, shard, shards int, after ShardCursor, limit int) ([]Row, error)
}

// Prices returns current prices; *price.Service does.
type Prices interface {
	Quotes(ctx context.Context, ids []string) (map[string]price.Quote, error)
}

// Service reads holdings.
type Service struct {
	store  Store
	prices Prices
	now    func() time.Time
}

// NewService returns the rules over a store and prices.
func NewService(s Store, p Prices, now func() time.Time) *Service {
	return &Service{store: s, prices: p, now: now}
}

// List returns up to limit rows of what the owner's wallets hold, with quotes, and
// the cursor of the next page, nil on the last.
func (s *Service) List(ctx context.Context, owner uuid.UUID, after Cursor, limit int) ([]Row, *Cursor, error) {
	rows, err := s.store.Holdings(ctx, owner, after, limit+1)
	if err != nil {
		return nil, nil, err
	}
	var next *Cursor
	if len(rows) > limit {
		rows = rows[:limit]
		next = CursorOf(rows[limit-1])
	}
	if err := s.quote(ctx, rows); err != nil {
		return nil, nil, err
	}
	return rows, next, nil
}

// ListShard returns up to limit rows of what the wallets of a shard's owners hold, after the cursor, with quotes; none
// at the end.
func (s *Service) ListShard(ctx context.Context, shard, shards int, after ShardCursor, limit int) ([]Row, error) {
	rows, err := s.store.ShardHoldings(ctx, shard, shards, after, limit)
	if err != nil {
		return nil, err
	}
	return rows, s.quote(ctx, rows)
}

// quote adds the quotes of what rows hold.
func (s *Service) quote(ctx context.Context, rows []Row) error {
	seen := map[string]bool{}
	var ids []string
	for _, r := range rows {
		if r.Balance != nil && !seen[r.Balance.Token.ID] {
			seen[r.Balance.Token.ID] = true
			ids = append(ids, r.Balance.Token.ID)
		}
		for _, a := range r.Assets {
			if !seen[a.Token.ID] {
				seen[a.Token.ID] = true
				ids = append(ids, a.Token.ID)
			}
		}
	}
	quotes, err := s.prices.Quotes(ctx, ids)
	if err != nil {
		return err
	}
	now := s.now()
	for i := range rows {
		if w := rows[i].Wallet; i == 0 || w != rows[i-1].Wallet {
			w.Sync = w.Sync.AsOf(now)
		}
		if b := rows[i].Balance; b != nil {
			rows[i].Quote = quotes[b.Token.ID]
		}
		for j := range rows[i].Assets {
			rows[i].Assets[j].Quote = quotes[rows[i].Assets[j].Token.ID]
		}
	}
	return nil
}

// CursorOf returns the cursor of a row.
func CursorOf(r Row) *Cursor {
	c := Cursor{Wallet: r.Wallet.ID}
	if r.Balance != nil {
		c.Token = r.Balance.Token.ID
	}
	return &c
}
