package store

import (
	"context"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/services/internal/answers"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

type requestRow = answers.Row

// once is answers.Once in a transaction as change does.
func once[T any](ctx context.Context, s *Wallets, owner uuid.UUID, r *wallet.Request, out *T,
	fn func(tx *gorm.DB) error) error {
	return s.change(ctx, owner, func(tx *gorm.DB) error {
		return answers.Once(tx, owner, r, out, func() error { return fn(tx) })
	})
}

func claim(tx *gorm.DB, owner uuid.UUID, r wallet.Request, out any) (answered bool, err error) {
	return answers.Claim(tx, owner, r, out)
}

func earlier(tx *gorm.DB, owner uuid.UUID, r wallet.Request, out any) (answered bool, err error) {
	return answers.Earlier(tx, owner, r, out)
}
