package store

import (
	"context"
	"fmt"

	"github.com/google/uuid"
)

// Exists reports whether there is a portfolio with this id, of whichever owner: for commands of an operator.
func (s *Portfolios) Exists(ctx context.Context, id uuid.UUID) (bool, error) {
	var found bool
	err := s.db.Gorm(ctx).Raw("SELECT EXISTS (SELECT FROM portfolios WHERE id = ?)", id).Scan(&found).Error
	if err != nil {
		return false, fmt.Errorf("read portfolio: %w", err)
	}
	return found, nil
}
