package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/wallet/internal/price"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

type priceRow struct {
	TokenID   string `gorm:"primaryKey"`
	Price     string
	Source    string
	PriceTime time.Time
	FetchedAt time.Time
}

func (priceRow) TableName() string { return "prices" }

// Prices implements price.Store.
type Prices struct {
	db     *postgres.DB
	tokens *Tokens
}

// NewPrices returns the prices in db of tokens.
func NewPrices(db *postgres.DB, tokens *Tokens) *Prices { return &Prices{db: db, tokens: tokens} }

// Tokens implements price.Store.
func (s *Prices) Tokens(ctx context.Context, ids []string) (map[string]token.Token, error) {
	return s.tokens.byIDs(ctx, ids)
}

// Prices implements price.Store.
func (s *Prices) Prices(ctx context.Context, ids []string) (map[string]price.Known, error) {
	var rows []priceRow
	err := s.db.Gorm(ctx).Where("token_id IN ?", ids).Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read prices: %w", err)
	}
	out := make(map[string]price.Known, len(rows))
	for _, r := range rows {
		text, err := price.Parse(r.Price)
		if err != nil {
			return nil, fmt.Errorf("price of %s in the database: %w", r.TokenID, err)
		}
		out[r.TokenID] = price.Known{
			Quote:     price.Quote{TokenID: r.TokenID, Price: text, Source: r.Source, At: r.PriceTime.UTC()},
			FetchedAt: r.FetchedAt,
		}
	}
	return out, nil
}

// SavePrices implements price.Store. Rows are locked in one order, so that
// two replicas that fetch at once don't deadlock.
func (s *Prices) SavePrices(ctx context.Context, quotes []price.Quote, fetchedAt time.Time) error {
	if len(quotes) == 0 {
		return nil
	}
	rows := make([]priceRow, len(quotes))
	for i, q := range quotes {
		rows[i] = priceRow{TokenID: q.TokenID, Price: q.Price, Source: q.Source, PriceTime: q.At, FetchedAt: fetchedAt}
	}
	slices.SortFunc(rows, func(a, b priceRow) int { return cmp.Compare(a.TokenID, b.TokenID) })
	err := s.db.Gorm(ctx).Clauses(clause.OnConflict{
		Columns: []clause.Column{{Name: "token_id"}},
		DoUpdates: clause.Assignments(map[string]any{
			"price": newer("price"), "source": newer("source"), "price_time": newer("price_time"),
			// Also when the source said something older: it was asked.
			"fetched_at": gorm.Expr("greatest(excluded.fetched_at, prices.fetched_at)"),
		}),
	}).Create(&rows).Error
	if err != nil {
		return fmt.Errorf("store prices: %w", err)
	}
	return nil
}

// newer takes a column of the price with the later time.
func newer(column string) clause.Expr {
	return gorm.Expr("CASE WHEN excluded.price_time >= prices.price_time THEN excluded." + column + " ELSE prices." +
		column + " END")
}
