package store

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/authority"
	"github.com/purserhq/purser/services/auth/internal/role"
)

// targets are the accounts that a transaction is about to change; zero ids are none.
type targets struct{ user, serviceAccount uuid.UUID }

// lockCaller locks the caller of the transaction's context together with the accounts that it is about to change, and
// returns what the caller holds now; see package authority. It comes before every other lock. Without a caller, on the
// command line and in jobs, everything is held.
//
// Users are locked before service accounts, and each kind in the order of their ids, so that two callers who change
// each other wait for one another and do not deadlock. The session, API key or secret comes after them. The caller's
// rows are locked for others to read: a caller's own concurrent changes do not wait for each other.
func lockCaller(tx *gorm.DB, t targets) (authority.Held, error) {
	ctx := tx.Statement.Context
	caller := authn.CallerFrom(ctx)
	byService := slices.Contains(caller.Methods, authn.MethodService)
	user, service := caller.UserID, uuid.Nil
	if byService {
		user, service = uuid.Nil, caller.UserID
	}
	if err := lockRows(tx, "users", user, t.user); err != nil {
		return authority.Held{}, err
	}
	if err := lockRows(tx, "service_accounts", service, t.serviceAccount); err != nil {
		return authority.Held{}, err
	}
	if caller.Anonymous() {
		return authority.Held{All: true}, nil
	}
	read := sessionState
	switch {
	case byService:
		read = secretState
	case slices.Contains(caller.Methods, authn.MethodAPIKey):
		read = apiKeyState
	}
	state, err := read(tx, caller)
	if err != nil {
		return authority.Held{}, fmt.Errorf("read the caller's authority: %w", err)
	}
	return authority.Decide(caller, state, authn.RequiredPermission(ctx))
}

// lockRows locks a caller's row for reading and a target's row for a change, the smaller id first. Rows that do not
// exist are left out.
func lockRows(tx *gorm.DB, table string, caller, target uuid.UUID) error {
	ids := []uuid.UUID{caller, target}
	if bytes.Compare(caller[:], target[:]) > 0 {
		slices.Reverse(ids)
	}
	for _, id := range slices.Compact(ids) {
		strength := "SHARE"
		if id == target {
			strength = "UPDATE"
		}
		if id == uuid.Nil {
			continue
		}
		if err := tx.Exec("SELECT FROM "+table+" WHERE id = ? FOR "+strength, id).Error; err != nil {
			return fmt.Errorf("lock %s: %w", table, err)
		}
	}
	return nil
}

func sessionState(tx *gorm.DB, caller authn.Caller) (authority.State, error) {
	return userState(tx, caller, `SELECT id FROM sessions WHERE id = ? AND user_id = ? AND revoked_at IS NULL
		AND expires_at > clock_timestamp() FOR SHARE`)
}

func apiKeyState(tx *gorm.DB, caller authn.Caller) (authority.State, error) {
	return userState(tx, caller, `SELECT id FROM api_keys WHERE id = ? AND user_id = ? AND revoked_at IS NULL
		AND expires_at > clock_timestamp() FOR SHARE`)
}

// userState reads the state of a user, whose session or API key lock locks and finds if it is active.
func userState(tx *gorm.DB, caller authn.Caller, lock string) (authority.State, error) {
	active, err := exists(tx, lock, caller.SessionID, caller.UserID)
	if err != nil || !active {
		return authority.State{}, err
	}
	is, err := accessState(tx, caller.UserID)
	if errs.Is(err, errs.KindNotFound) {
		return authority.State{}, nil
	}
	return authority.State{Active: true, Disabled: is.Disabled, Permissions: role.Permissions(is.Roles)}, err
}

func secretState(tx *gorm.DB, caller authn.Caller) (authority.State, error) {
	active, err := exists(tx, `SELECT id FROM service_secrets WHERE id = ? AND account_id = ?
		AND (expires_at IS NULL OR expires_at > clock_timestamp()) FOR SHARE`, caller.SessionID, caller.UserID)
	if err != nil || !active {
		return authority.State{}, err
	}
	var row serviceAccountRow
	if err := tx.Where("id = ?", caller.UserID).Take(&row).Error; err != nil {
		return authority.State{}, missing(err, "service account")
	}
	return authority.State{Active: true, Disabled: row.DisabledAt != nil, Permissions: row.Permissions}, nil
}

func exists(tx *gorm.DB, query string, args ...any) (bool, error) {
	var ids []uuid.UUID
	err := tx.Raw(query, args...).Scan(&ids).Error
	return len(ids) > 0, err
}

// TriggerJob checks and records, in the transaction of its trigger, that the caller triggers a job.
func TriggerJob(tx *gorm.DB, job string) error {
	if _, err := lockCaller(tx, targets{}); err != nil {
		return err
	}
	actor := authn.CallerFrom(tx.Statement.Context).UserID
	return record(tx, audit.Event{Type: audit.JobTriggered, Actor: actor, Object: job})
}

// Authority implements authority.Reader.
type Authority struct{ db *postgres.DB }

// NewAuthority returns the callers that are stored in db.
func NewAuthority(db *postgres.DB) *Authority { return &Authority{db: db} }

// Now implements authority.Reader.
func (a *Authority) Now(ctx context.Context, bearer authn.Caller) (held authority.Held, err error) {
	ctx = authn.WithRequiredPermission(authn.WithCaller(ctx, bearer), "")
	err = postgres.InTx(ctx, a.db, func(tx *gorm.DB) error {
		held, err = lockCaller(tx, targets{})
		return err
	})
	return held, err
}

// Check implements authority.Reader.
func (a *Authority) Check(ctx context.Context) error {
	return postgres.InTx(ctx, a.db, func(tx *gorm.DB) error {
		_, err := lockCaller(tx, targets{})
		return err
	})
}
