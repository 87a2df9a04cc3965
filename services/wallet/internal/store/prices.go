package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/wallet/internal/price"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

type priceRow struct {
	TokenID        string `gorm:"primaryKey"`
	Price          string
	Source         string
	PriceTime      time.Time
	GoodForSeconds int64
	OtherSource    string
	OtherPrice     *string
	OtherTime      *time.Time
	FetchedAt      time.Time
}

func (priceRow) TableName() string { return "prices" }

// Prices implements price.Store.
type Prices struct {
	db     *postgres.DB
	tokens *Tokens
}

// NewPrices returns the prices in db.
func NewPrices(db *postgres.DB, tokens *Tokens) *Prices { return &Prices{db: db, tokens: tokens} }

// Tokens implements price.Store.
func (s *Prices) Tokens(ctx context.Context, ids []string) (map[string]token.Token, error) {
	return s.tokens.byIDs(ctx, ids)
}

// Prices implements price.Store.
func (s *Prices) Prices(ctx context.Context, ids []string) (map[string]price.Stored, error) {
	var rows []priceRow
	err := s.db.Gorm(ctx).Where("token_id IN ?", ids).Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read prices: %w", err)
	}
	out := make(map[string]price.Stored, len(rows))
	for _, r := range rows {
		p, err := priceFromRow(r)
		if err != nil {
			return nil, err
		}
		out[r.TokenID] = price.Stored{Price: p, FetchedAt: r.FetchedAt}
	}
	return out, nil
}

func priceFromRow(r priceRow) (price.Price, error) {
	value, err := price.Parse(r.Price)
	if err != nil {
		return price.Price{}, fmt.Errorf("price of %s in the database: %w", r.TokenID, err)
	}
	p := price.Price{Value: value, Source: r.Source, At: r.PriceTime.UTC(),
		GoodFor: time.Duration(r.GoodForSeconds) * time.Second}
	if r.OtherPrice != nil && r.OtherTime != nil {
		if value, err = price.Parse(*r.OtherPrice); err != nil {
			return price.Price{}, fmt.Errorf("other price of %s in the database: %w", r.TokenID, err)
		}
		p.Other = &price.Other{Value: value, Source: r.OtherSource, At: r.OtherTime.UTC()}
	}
	return p, nil
}

// SavePrices implements price.Store. Rows are written in the order of their
// tokens, so that concurrent calls don't deadlock.
func (s *Prices) SavePrices(ctx context.Context, prices map[string]price.Price, fetchedAt time.Time) error {
	if len(prices) == 0 {
		return nil
	}
	rows := make([]priceRow, 0, len(prices))
	for _, id := range slices.Sorted(maps.Keys(prices)) {
		p := prices[id]
		row := priceRow{TokenID: id, Price: p.Value, Source: p.Source, PriceTime: p.At,
			GoodForSeconds: int64(p.GoodFor / time.Second), FetchedAt: fetchedAt}
		if p.Other != nil {
			row.OtherSource, row.OtherPrice, row.OtherTime = p.Other.Source, &p.Other.Value, &p.Other.At
		}
		rows = append(rows, row)
	}
	err := s.db.Gorm(ctx).Clauses(clause.OnConflict{
		Columns: []clause.Column{{Name: "token_id"}},
		DoUpdates: clause.Assignments(map[string]any{
			"price": newer("price"), "source": newer("source"), "price_time": newer("price_time"),
			"good_for_seconds": newer("good_for_seconds"), "other_source": newer("other_source"),
			"other_price": newer("other_price"), "other_time": newer("other_time"),
			// Also of an older price: it is what the source has now.
			"fetched_at": gorm.Expr("greatest(excluded.fetched_at, prices.fetched_at)"),
		}),
	}).Create(&rows).Error
	if err != nil {
		return fmt.Errorf("store prices: %w", err)
	}
	return nil
}

// newer takes a column from the price with the later time, or from the new one when it is
// of another source.
func newer(column string) clause.Expr {
	return gorm.Expr("CASE WHEN excluded.price_time >= prices.price_time OR excluded.source <> prices.source " +
		"THEN excluded." + column + " ELSE prices." + column + " END")
}
