package cache

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
)

// Stale is keys of one cache that a transaction changes the sources of.
type Stale struct {
	Cache interface {
		Note(tx *gorm.DB, keys ...string) error
		Invalidate(ctx context.Context, keys ...string) error
	}
	Keys []string
}

// Change runs fn in a transaction of postgres.InTx and invalidates what it
// returns: at once after the commit, and by the [Outbox] in case that fails. A
// database without [Schema], as while replicas are replaced, has to do without
// the outbox; fn is then run once more. Its error is the transaction's.
func Change(ctx context.Context, db *postgres.DB, fn func(tx *gorm.DB) ([]Stale, error)) error {
	var left []Stale
	var noteErr error
	err := postgres.InTx(ctx, db, func(tx *gorm.DB) (err error) {
		if left, err = fn(tx); err != nil {
			return err
		}
		noteErr = noteAll(tx, left)
		return noteErr
	})
	if missing := (*pgconn.PgError)(nil); noteErr != nil && errors.As(noteErr, &missing) &&
		missing.Code == undefinedTable {
		err = postgres.InTx(ctx, db, func(tx *gorm.DB) (err error) {
			left, err = fn(tx)
			return err
		})
	}
	if err == nil || errors.Is(err, postgres.ErrCommitUnknown) {
		for _, s := range left {
			// The caller's end doesn't stop it; the cache counts its failures.
			_ = s.Cache.Invalidate(context.WithoutCancel(ctx), s.Keys...)
		}
	}
	return err
}

// undefinedTable is Postgres's code of it.
const undefinedTable = "42P01"

func noteAll(tx *gorm.DB, left []Stale) error {
	for _, s := range left {
		if err := s.Cache.Note(tx, s.Keys...); err != nil {
			return err
		}
	}
	return nil
}
