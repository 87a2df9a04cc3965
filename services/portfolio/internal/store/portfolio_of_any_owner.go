package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
)

// OfAnyOwner returns the portfolio with this id, of whichever owner: for commands of an
// operator. It returns errs.NotFound for one that doesn't exist.
func (s *Portfolios) OfAnyOwner(ctx context.Context, id uuid.UUID) (portfolio.Portfolio, error) {
	var row portfolioRow
	err := s.db.Gorm(ctx).Where("id = ?", id).Take(&row).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return portfolio.Portfolio{}, errs.NotFound("portfolio " + id.String())
	}
	if err != nil {
		return portfolio.Portfolio{}, fmt.Errorf("read portfolio: %w", err)
	}
	return portfolioFromRow(row), nil
}
