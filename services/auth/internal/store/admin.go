package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/admin"
)

// Admin implements admin.Store.
type Admin struct{ accounts *Accounts }

// NewAdmin returns the accounts as administrators see them.
func NewAdmin(a *Accounts) *Admin { return &Admin{accounts: a} }

// adminRow is a user and whether they have a second factor.
type adminRow struct {
	User         userRow `gorm:"embedded"`
	SecondFactor bool
	// SecondFactorDue is when it will be removed; nil unless that is pending.
	SecondFactorDue *time.Time
	RoleNames       []string `gorm:"serializer:json"`
}

const adminColumns = `users.id, email, display_name, created_at, email_verified_at, attributes, disabled_at,
	invited_at,
	(SELECT m.due_at FROM second_factor_removals m JOIN second_factors f ON f.user_id = m.user_id
		AND f.confirmed_at = m.confirmed_at AND f.last_step = m.last_step
		AND jsonb_array_length(f.recovery_hashes) = m.recovery_codes WHERE m.user_id = users.id) AS second_factor_due,
	EXISTS (SELECT FROM second_factors f WHERE f.user_id = users.id AND f.confirmed_at IS NOT NULL) AS second_factor,
	coalesce((SELECT jsonb_agg(r.role ORDER BY r.role) FROM user_roles r WHERE r.user_id = users.id), '[]')
		AS role_names`

func (r adminRow) account() admin.Account {
	u := r.User.user()
	u.Roles = r.RoleNames
	return admin.Account{User: u, Attributes: r.User.Attributes, DisabledAt: orZero(r.User.DisabledAt),
		InvitedAt:    orZero(r.User.InvitedAt),
		SecondFactor: r.SecondFactor, SecondFactorDue: orZero(r.SecondFactorDue)}
}

// List implements admin.Store. Ids are UUIDv7, so their order is that of creation.
func (s *Admin) List(ctx context.Context, f admin.Filter) ([]admin.Account, error) {
	if strings.ContainsRune(f.EmailPrefix+f.Role, 0) { // Postgres has no text with a NUL
		return nil, nil
	}
	q := s.accounts.db.Gorm(ctx).Table("users").Select(adminColumns).Order("users.id DESC").Limit(f.Limit)
	if f.EmailPrefix != "" {
		q = q.Where("email LIKE ?", strings.NewReplacer(`\`, `\\`, "%", `\%`, "_", `\_`).Replace(f.EmailPrefix)+"%")
	}
	if f.Role != "" {
		q = q.Where("users.id IN (SELECT user_id FROM user_roles WHERE role = ?)", f.Role)
	}
	if f.Disabled != nil {
		q = q.Where("(disabled_at IS NOT NULL) = ?", *f.Disabled)
	}
	if f.Before != uuid.Nil {
		q = q.Where("users.id < ?", f.Before)
	}
	var rows []adminRow
	if err := q.Scan(&rows).Error; err != nil {
		return nil, fmt.Errorf("list users: %w", err)
	}
	accounts := make([]admin.Account, len(rows))
	for i, row := range rows {
		accounts[i] = row.account()
	}
	return accounts, nil
}

// Find implements admin.Store.
func (s *Admin) Find(ctx context.Context, id uuid.UUID) (admin.Account, error) {
	var rows []adminRow
	err := s.accounts.db.Gorm(ctx).Table("users").Select(adminColumns).Where("users.id = ?", id).Scan(&rows).Error
	if err != nil {
		return admin.Account{}, fmt.Errorf("read user: %w", err)
	}
	if len(rows) == 0 {
		return admin.Account{}, missing(gorm.ErrRecordNotFound, "user")
	}
	return rows[0].account(), nil
}

// Change implements admin.Store.
func (s *Admin) Change(ctx context.Context, id uuid.UUID, include account.Include, decide account.Decide) error {
	return s.accounts.Change(ctx, id, include, decide)
}
