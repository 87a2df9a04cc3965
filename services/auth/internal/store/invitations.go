package store

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/admin"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/authority"
	"github.com/purserhq/purser/services/auth/internal/mail"
)

// Invite implements admin.Store.
func (s *Admin) Invite(ctx context.Context, i admin.Invitation, check func(authority.Held) error, mails mail.Kind,
	again account.Decide) (id uuid.UUID, err error) {
	err = cache.Change(ctx, s.accounts.db, func(tx *gorm.DB) ([]cache.Invalidation, error) {
		id, err = invite(tx, i, check, mails, again)
		return s.accounts.stale(id), err
	})
	s.accounts.mails.signalQueued()
	return id, err
}

func invite(tx *gorm.DB, i admin.Invitation, check func(authority.Held) error, mails mail.Kind,
	again account.Decide) (uuid.UUID, error) {
	var owner []uuid.UUID // found first, because its lock is taken together with the caller's
	if err := tx.Raw("SELECT id FROM users WHERE email = ?", i.User.Email).Scan(&owner).Error; err != nil {
		return uuid.Nil, fmt.Errorf("read user: %w", err)
	}
	changed := errs.Unavailable("TRY_AGAIN", "the account of this address was made or deleted just now")
	var t targets
	if len(owner) > 0 {
		t.user = owner[0]
	}
	held, err := lockCaller(tx, t)
	if err == nil {
		err = check(held)
	}
	if err != nil {
		return uuid.Nil, err
	}
	if len(owner) == 0 {
		row := userRow{ID: i.User.ID, Email: &i.User.Email, CreatedAt: i.User.CreatedAt,
			InvitedAt: &i.User.CreatedAt, Attributes: i.Attributes}
		created, err := createUser(tx, &row, i.User.Roles)
		if err == nil && !created {
			err = changed
		}
		if err != nil {
			return uuid.Nil, err
		}
		return i.User.ID, apply(tx, account.State{User: i.User}, i.Changes)
	}
	state, now, err := lockAccount(tx, "email = ?", i.User.Email)
	if errs.Is(err, errs.KindNotFound) || err == nil && state.ID != t.user {
		return uuid.Nil, changed.Because(err)
	}
	if err != nil {
		return uuid.Nil, err
	}
	state.Caller = held
	return state.ID, decideAndApply(tx, state, now,
		account.Include{Roles: true, RecentMails: []mail.Kind{mails}}, again)
}

// accepted returns the event of an invitation that changes accept, because they verify the address.
func accepted(s account.State, c account.Changes) []audit.Event {
	if s.InvitedAt.IsZero() || c.VerifiedAt.IsZero() {
		return nil
	}
	return []audit.Event{{Type: audit.InvitationAccepted, Subject: s.ID}}
}
