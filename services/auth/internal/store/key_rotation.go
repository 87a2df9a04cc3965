package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/signing"
)

// Apply implements signing.RotationStore. The UPDATE itself checks that a promoted
// key is at least PropagationTime old.
func (s *Keys) Apply(ctx context.Context, issuer string, epoch int64, step signing.Step, created *signing.Key,
	p signing.Policy) error {
	return s.updateRing(ctx, issuer, func(tx *gorm.DB, at int64, now time.Time) error {
		if at != epoch {
			return signing.ErrEpochChanged
		}
		change := keyUpdate{tx: tx, args: map[string]any{"issuer": issuer, "promoted_early": step.PromotedEarly,
			"propagation": p.PropagationTime().Microseconds()}}
		if step.Demote != "" {
			change.exec(step.Demote, `state = 'RETIRING', retiring_at = clock_timestamp()`, `state = 'ACTIVE'`)
		}
		if step.Promote != "" {
			change.exec(step.Promote,
				`state = 'ACTIVE', activated_at = clock_timestamp(), promoted_early = @promoted_early`,
				`state = 'STANDBY' AND (@promoted_early
					OR published_at + @propagation * interval '1 microsecond' <= clock_timestamp())`)
		}
		for _, kid := range step.Erase {
			change.exec(kid, `sealed_private = NULL, wrapped_key = NULL`, `state = 'RETIRING'`)
		}
		for _, kid := range step.Retire {
			change.exec(kid, `state = 'RETIRED', retired_at = clock_timestamp(),
				sealed_private = NULL, wrapped_key = NULL`, `state = 'RETIRING'`)
		}
		if change.err != nil {
			return change.err
		}
		if reason := promotionReason(step); reason != "" {
			err := record(tx, audit.Event{Type: audit.KeyRotated, Reason: reason, Actor: authn.CallerFrom(ctx).UserID,
				Object: step.Promote})
			if err != nil {
				return err
			}
		}
		if created == nil {
			return nil
		}
		return createKey(tx, issuer, *created, now)
	})
}

// promotionReason returns why a key was promoted before the active key's Period was over; empty when it was not.
func promotionReason(s signing.Step) string {
	switch {
	case s.PromotedEarly:
		return "PROMOTED_EARLY"
	case s.Forced:
		return "FORCED"
	}
	return ""
}

// RevokeKey implements signing.RotationStore.
func (s *Keys) RevokeKey(ctx context.Context, issuer, kid string) error {
	if strings.ContainsRune(kid, 0) { // Postgres has no text with a NUL
		return errs.Unlisted("signing key", kid, "see AdminService.ListSigningKeys")
	}
	err := s.updateRing(ctx, issuer, func(tx *gorm.DB, _ int64, _ time.Time) error {
		var state string
		if err := tx.Raw("SELECT state FROM signing_keys WHERE issuer = ? AND kid = ?", issuer,
			kid).Scan(&state).Error; err != nil {
			return fmt.Errorf("revoke key: %w", err)
		}
		switch signing.State(state) {
		case "":
			return errs.Unlisted("signing key", kid, "see AdminService.ListSigningKeys")
		case signing.Revoked:
			return errUnchanged
		}
		err := tx.Exec(`UPDATE signing_keys SET state = 'REVOKED', revoked_at = clock_timestamp(),
			sealed_private = NULL, wrapped_key = NULL WHERE issuer = ? AND kid = ?`, issuer, kid).Error
		if err != nil {
			return fmt.Errorf("revoke key: %w", err)
		}
		return record(tx, audit.Event{Type: audit.KeyRevoked, Actor: authn.CallerFrom(ctx).UserID, Object: kid})
	})
	if errors.Is(err, errUnchanged) {
		return nil
	}
	return err
}

// errUnchanged rolls back a transaction without a change.
var errUnchanged = errors.New("store: nothing to change")

// updateRing calls change with the caller and the ring's row locked, and raises the epoch.
func (s *Keys) updateRing(ctx context.Context, issuer string,
	change func(tx *gorm.DB, epoch int64, now time.Time) error) error {
	return postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		if _, err := lockCaller(tx, targets{}); err != nil {
			return err
		}
		var ring struct {
			Epoch int64
			Now   time.Time
		}
		if err := tx.Raw("SELECT epoch, clock_timestamp() AS now FROM key_ring WHERE issuer = ? FOR UPDATE",
			issuer).Scan(&ring).Error; err != nil {
			return fmt.Errorf("lock key ring: %w", err)
		}
		if err := change(tx, ring.Epoch, ring.Now); err != nil {
			return err
		}
		if err := tx.Exec("UPDATE key_ring SET epoch = epoch + 1 WHERE issuer = ?", issuer).Error; err != nil {
			return fmt.Errorf("raise epoch: %w", err)
		}
		return nil
	})
}

// keyUpdate updates keys of one ring; after an error it does nothing.
type keyUpdate struct {
	tx   *gorm.DB
	args map[string]any
	err  error
}

// exec updates the key kid. It is an error when the key does not meet the condition.
func (t *keyUpdate) exec(kid, set, condition string) {
	if t.err != nil {
		return
	}
	t.args["kid"] = kid
	done := t.tx.Exec("UPDATE signing_keys SET "+set+" WHERE issuer = @issuer AND kid = @kid AND "+condition, t.args)
	switch {
	case done.Error != nil:
		t.err = fmt.Errorf("change key %s: %w", kid, done.Error)
	case done.RowsAffected != 1:
		t.err = fmt.Errorf("key %s is not in the state that the step needs, or too young", kid)
	}
}

func createKey(tx *gorm.DB, issuer string, k signing.Key, now time.Time) error {
	row := keyRow{
		KID: k.KID, Issuer: issuer, Algorithm: k.Algorithm, State: string(k.State), PublicKey: k.Public,
		SealedPrivate: k.Sealed, WrappedKey: k.Wrapped, CreatedAt: now, PublishedAt: &now,
	}
	if k.State == signing.Active {
		row.ActivatedAt = &now
	}
	if err := tx.Create(&row).Error; err != nil {
		return fmt.Errorf("create key: %w", err)
	}
	return nil
}
