package store

import (
	"context"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/services/internal/answers"
	"github.com/purserhq/purser/services/internal/requests"
)

type requestRow = answers.Row

// once is answers.Once in a transaction as change does.
func once[T any](ctx context.Context, s *Wallets, owner uuid.UUID, r *requests.Request, out *T,
	fn func(tx *gorm.DB) error) error {
	return s.change(ctx, owner, func(tx *gorm.DB) error {
		return answers.Once(tx, owner, r, out, func() error { return fn(tx) })
	})
}
