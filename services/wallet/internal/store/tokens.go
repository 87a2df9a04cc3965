package store

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/wallet/internal/caip"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

// Tokens implements token.Store.
type Tokens struct{ db *postgres.DB }

// NewTokens returns the tokens in db.
func NewTokens(db *postgres.DB) *Tokens { return &Tokens{db: db} }

// ByID implements token.Store.
func (s *Tokens) ByID(ctx context.Context, id string) (token.Token, error) {
	var row tokenRow
	err := s.db.Gorm(ctx).Where("id = ?", id).Take(&row).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return token.Token{}, errs.NotFound("token")
	}
	if err != nil {
		return token.Token{}, fmt.Errorf("read token: %w", err)
	}
	return tokenFromRow(row)
}

// List implements token.Store.
func (s *Tokens) List(ctx context.Context, chain uint64, after string, limit int) ([]token.Token, error) {
	q := s.db.Gorm(ctx).Where("id > ?", after).Order("id").Limit(limit)
	if chain != 0 {
		q = q.Where("chain = ?", caip.ChainID(chain))
	}
	var rows []tokenRow
	if err := q.Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	tokens := make([]token.Token, len(rows))
	for i, r := range rows {
		var err error
		if tokens[i], err = tokenFromRow(r); err != nil {
			return nil, err
		}
	}
	return tokens, nil
}

// Put implements token.Store. Decimals of a known token don't change: they
// are fixed on chain, and a list that says otherwise must not move every
// value by powers of ten.
func (s *Tokens) Put(ctx context.Context, tokens []token.Token) error {
	if len(tokens) == 0 {
		return nil
	}
	rows := make([]tokenRow, len(tokens))
	for i, t := range tokens {
		rows[i] = tokenToRow(t)
	}
	err := s.db.Gorm(ctx).Clauses(clause.OnConflict{
		Columns:   []clause.Column{{Name: "id"}},
		DoUpdates: clause.AssignmentColumns([]string{"symbol", "name", "verified"}),
	}).CreateInBatches(&rows, 500).Error
	if err != nil {
		return fmt.Errorf("store tokens: %w", err)
	}
	return nil
}
