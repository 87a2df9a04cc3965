package cache

import (
	"context"
	"errors"

	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
)

// Invalidation is the keys of one cache whose source a transaction changes.
type Invalidation struct {
	Cache interface {
		RecordInvalidation(tx *gorm.DB, keys ...string) error
		Invalidate(ctx context.Context, keys ...string) error
	}
	Keys []string
}

// Change runs fn in a transaction of postgres.InTx and carries out the
// invalidations that fn returns: it records them in the transaction, for the
// [Outbox], and invalidates at once after the commit. The database needs [Schema].
// The error is the transaction's.
func Change(ctx context.Context, db *postgres.DB, fn func(tx *gorm.DB) ([]Invalidation, error)) error {
	var invalidations []Invalidation
	err := postgres.InTx(ctx, db, func(tx *gorm.DB) (err error) {
		if invalidations, err = fn(tx); err != nil {
			return err
		}
		for _, i := range invalidations {
			if err := i.Cache.RecordInvalidation(tx, i.Keys...); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil || errors.Is(err, postgres.ErrCommitUnknown) {
		for _, i := range invalidations {
			// Not cancelled with the caller. Failures are counted, and the
			// Outbox invalidates the keys later.
			_ = i.Cache.Invalidate(context.WithoutCancel(ctx), i.Keys...)
		}
	}
	return err
}
