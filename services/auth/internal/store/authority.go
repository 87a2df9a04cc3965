package store

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/authority"
	"github.com/purserhq/purser/services/auth/internal/role"
)

// targets are the accounts that a transaction is about to change; zero ids are none.
type targets struct{ user, serviceAccount uuid.UUID }

// lockCaller locks the caller of the transaction's context together with the accounts that it is about to change, and
// returns what the caller holds now; see package authority. It comes before every other lock. What is held
// without a caller says authority.WithoutCaller.
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
	return holds(tx, caller, "FOR SHARE")
}

// lockCallerAndAccount is lockCaller for a user's account that is about to be changed, which it reads too. An account
// that is the caller's own is locked and read once. errs.NotFound, and the errors of lockCaller.
func lockCallerAndAccount(tx *gorm.DB, id uuid.UUID) (account.State, time.Time, error) {
	caller := authn.CallerFrom(tx.Statement.Context)
	if caller.UserID != id || slices.Contains(caller.Methods, authn.MethodService) {
		held, err := lockCaller(tx, targets{user: id})
		if err != nil {
			return account.State{}, time.Time{}, err
		}
		state, now, err := lockAccount(tx, "id = ?", id)
		state.Caller = held
		return state, now, err
	}
	state, now, err := lockAccount(tx, "id = ?", id)
	if err != nil && !errs.Is(err, errs.KindNotFound) {
		return state, now, err
	}
	held, ended := holds(tx, caller, "FOR SHARE")
	if ended != nil { // whose account is deleted is told that their session has ended
		return state, now, ended
	}
	state.Caller = held
	return state, now, err
}

// holds reads what a caller holds now, and locks their session, API key or secret as strength says; "" does not. Where
// the answer has to stay true until the end of the transaction, the row of their account has to be locked before.
func holds(tx *gorm.DB, caller authn.Caller, strength string) (authority.Held, error) {
	if caller.Anonymous() {
		return authority.WithoutCaller(tx.Statement.Context), nil
	}
	read := sessionState
	switch {
	case slices.Contains(caller.Methods, authn.MethodService):
		read = secretState
	case slices.Contains(caller.Methods, authn.MethodAPIKey):
		read = apiKeyState
	}
	state, err := read(tx, caller, strength)
	if err != nil {
		return authority.Held{}, fmt.Errorf("read the caller's authority: %w", err)
	}
	return authority.Decide(caller, state, authn.RequiredPermission(tx.Statement.Context))
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

func sessionState(tx *gorm.DB, caller authn.Caller, strength string) (authority.State, error) {
	return userState(tx, caller, "sessions", strength)
}

func apiKeyState(tx *gorm.DB, caller authn.Caller, strength string) (authority.State, error) {
	return userState(tx, caller, "api_keys", strength)
}

// userState reads the state of a user whose token is of a row of table, sessions or api_keys.
func userState(tx *gorm.DB, caller authn.Caller, table, strength string) (authority.State, error) {
	var found []struct {
		Disabled bool
		Roles    []string `gorm:"serializer:json"`
	}
	err := tx.Raw(`
		SELECT u.disabled_at IS NOT NULL AS disabled,
			coalesce((SELECT jsonb_agg(role) FROM user_roles WHERE user_id = u.id), '[]') AS roles
		FROM (SELECT user_id FROM `+table+` WHERE id = ? AND user_id = ? AND revoked_at IS NULL
			AND expires_at > clock_timestamp() `+strength+`) s
		JOIN users u ON u.id = s.user_id`, caller.SessionID, caller.UserID).Scan(&found).Error
	if err != nil || len(found) == 0 {
		return authority.State{}, err
	}
	return authority.State{Active: true, Disabled: found[0].Disabled,
		Permissions: role.Permissions(found[0].Roles)}, nil
}

func secretState(tx *gorm.DB, caller authn.Caller, strength string) (authority.State, error) {
	var found []struct {
		Disabled    bool
		Permissions []string `gorm:"serializer:json"`
	}
	err := tx.Raw(`
		SELECT a.disabled_at IS NOT NULL AS disabled, a.permissions
		FROM (SELECT account_id FROM service_secrets WHERE id = ? AND account_id = ?
			AND (expires_at IS NULL OR expires_at > clock_timestamp()) `+strength+`) s
		JOIN service_accounts a ON a.id = s.account_id`, caller.SessionID, caller.UserID).Scan(&found).Error
	if err != nil || len(found) == 0 {
		return authority.State{}, err
	}
	return authority.State{Active: true, Disabled: found[0].Disabled, Permissions: found[0].Permissions}, nil
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
func (a *Authority) Now(ctx context.Context, bearer authn.Caller) (authority.Held, error) {
	return holds(a.db.Gorm(authn.WithRequiredPermission(ctx, "")), bearer, "")
}

// Check implements authority.Reader.
func (a *Authority) Check(ctx context.Context) error {
	_, err := holds(a.db.Gorm(ctx), authn.CallerFrom(ctx), "")
	return err
}
