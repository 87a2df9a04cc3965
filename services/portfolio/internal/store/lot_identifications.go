package store

import (
	"context"
	"fmt"
	"math/big"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/internal/answers"
	"github.com/purserhq/purser/services/internal/erasure"
	"github.com/purserhq/purser/services/internal/requests"
	"github.com/purserhq/purser/services/portfolio/internal/gains"
	"github.com/purserhq/purser/services/portfolio/internal/lots"
)

// maxIdentifications is how many records of IdentifyLots an owner may have.
const maxIdentifications = 10_000

// Identifications implements gains.Store.
type Identifications struct{ db *postgres.DB }

// NewIdentifications returns the records in db.
func NewIdentifications(db *postgres.DB) *Identifications { return &Identifications{db} }

// Answered implements gains.Store.
func (s *Identifications) Answered(ctx context.Context, owner uuid.UUID, r *requests.Request) (i gains.Identification,
	answered bool, err error) {
	if r == nil {
		return i, false, nil
	}
	answered, err = answers.Earlier(s.db.Gorm(ctx), owner, *r, &i)
	return i, answered, err
}

// Identify implements gains.Store.
func (s *Identifications) Identify(ctx context.Context, i gains.Identification, r *requests.Request) (
	gains.Identification, error) {
	out := i
	err := postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		return answers.Once(tx, i.Owner, r, &out, func() error {
			if err := erasure.Guard(tx, i.Owner); err != nil {
				return err
			}
			count, err := lockedCount(tx, "lot_identifications", i.Owner)
			if err != nil {
				return err
			}
			if count >= maxIdentifications {
				return errs.Exhausted("TOO_MANY_IDENTIFICATIONS",
					fmt.Sprintf("you have %d records of identified lots, the most that are kept", count))
			}
			out, err = insertIdentification(ctx, tx, i)
			return err
		})
	})
	return out, err
}

func insertIdentification(ctx context.Context, tx *gorm.DB, i gains.Identification) (gains.Identification, error) {
	ids, quantities := make([]string, len(i.Picks)), make([]string, len(i.Picks))
	for n, p := range i.Picks {
		ids[n], quantities[n] = p.Lot, p.Quantity.String()
	}
	err := postgres.Raw(tx, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, `
			INSERT INTO lot_identifications (owner_id, id, wallet_id, token_id, transaction_hash, lots, quantities,
			                                 recorded_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, clock_timestamp()) RETURNING recorded_at`,
			i.Owner, i.ID, i.Wallet, i.Token, i.Hash, ids, quantities).Scan(&i.Recorded)
	})
	i.Recorded = i.Recorded.UTC()
	if err != nil {
		return i, fmt.Errorf("store identification: %w", err)
	}
	return i, nil
}

// Identifications implements gains.Store.
func (s *Identifications) Identifications(ctx context.Context, owner uuid.UUID) (out []gains.Identification,
	err error) {
	err = postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		return postgres.Raw(tx, func(conn *pgx.Conn) error {
			out = nil
			rows, err := conn.Query(ctx, `
				SELECT id, wallet_id::text, token_id, transaction_hash, lots, quantities, recorded_at
				FROM lot_identifications WHERE owner_id = $1 ORDER BY recorded_at, id`, owner)
			if err != nil {
				return err
			}
			var i gains.Identification
			var ids, quantities []string
			var at time.Time
			columns := []any{&i.ID, &i.Wallet, &i.Token, &i.Hash, &ids, &quantities, &at}
			_, err = pgx.ForEachRow(rows, columns, func() error {
				next := i
				next.Owner, next.Recorded, next.Picks = owner, at.UTC(), nil
				for n, id := range ids {
					q, ok := new(big.Int).SetString(quantities[n], 10)
					if !ok {
						return fmt.Errorf("quantity %q in the database", quantities[n])
					}
					next.Picks = append(next.Picks, lots.Pick{Lot: id, Quantity: q})
				}
				out = append(out, next)
				ids, quantities = nil, nil
				return nil
			})
			return err
		})
	}, postgres.ReadOnly)
	if err != nil {
		return nil, fmt.Errorf("read identifications: %w", err)
	}
	return out, nil
}
