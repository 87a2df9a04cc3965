package store

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/identity"
)

// EndEverything implements identity.Store. Whatever signs in, or acts, for an account without its password, its
// identities or its second factor belongs here.
func (s *Identities) EndEverything(ctx context.Context, user uuid.UUID, e audit.Event) (ended identity.Ended,
	err error) {
	err = postgres.InTx(ctx, s.accounts.db, func(tx *gorm.DB) error {
		if _, err := lockCaller(tx, targets{user: user}); err != nil {
			return err
		}
		state, _, err := lockAccount(tx, "id = ?", user)
		if err != nil {
			return err
		}
		if err := complete(tx, &state, account.Include{Credentials: true, Factor: true}); err != nil {
			return err
		}
		if ended, err = endEverything(tx, state); err != nil {
			return err
		}
		return record(tx, e)
	})
	return ended, err
}

func endEverything(tx *gorm.DB, s account.State) (ended identity.Ended, err error) {
	codes := tx.Exec("DELETE FROM mailed_codes WHERE user_id = ?", s.ID)
	if codes.Error != nil {
		return ended, fmt.Errorf("end codes: %w", codes.Error)
	}
	ended.Codes = int(codes.RowsAffected)
	if err := apply(tx, s, account.EndRemoval(s, s.ID, "EVERYTHING_ENDED")); err != nil {
		return ended, err
	}
	if ended.Sessions, err = endSessions(tx, s.ID, uuid.Nil, "EVERYTHING_ENDED"); err != nil {
		return ended, err
	}
	if len(s.APIKeys) > 0 {
		if ended.APIKeys, err = revokeAPIKeys(tx, s.ID, account.IDs(s.APIKeys)); err != nil {
			return ended, err
		}
	}
	return ended, announce(tx, revokedUser, s.ID)
}
