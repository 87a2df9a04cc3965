package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/services/auth/internal/admin"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/role"
)

// Admin implements admin.Store.
type Admin struct{ accounts *Accounts }

// NewAdmin changes accounts for those who run Purser.
func NewAdmin(a *Accounts) *Admin { return &Admin{accounts: a} }

// adminRow is a user and whether they have a second factor.
type adminRow struct {
	User         userRow `gorm:"embedded"`
	SecondFactor bool
	RoleNames    []string `gorm:"serializer:json"`
}

const adminColumns = `users.id, email, display_name, created_at, email_verified_at, attributes, disabled_at,
	EXISTS (SELECT FROM second_factors f WHERE f.user_id = users.id AND f.confirmed_at IS NOT NULL) AS second_factor,
	coalesce((SELECT jsonb_agg(r.role ORDER BY r.role) FROM user_roles r WHERE r.user_id = users.id), '[]') AS role_names`

func (r adminRow) account() admin.Account {
	u := r.User.user()
	u.Roles = r.RoleNames
	return admin.Account{User: u, Attributes: r.User.Attributes, DisabledAt: orZero(r.User.DisabledAt),
		SecondFactor: r.SecondFactor}
}

// List implements admin.Store. Ids are UUIDv7, so their order is that of the
// making.
func (s *Admin) List(ctx context.Context, f admin.Filter) ([]admin.Account, error) {
	if strings.ContainsRune(f.EmailPrefix+f.Role, 0) { // which no text in Postgres can hold
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
	if err := s.accounts.db.Gorm(ctx).Table("users").Select(adminColumns).Where("users.id = ?",
		id).Scan(&rows).Error; err != nil {
		return admin.Account{}, fmt.Errorf("read user: %w", err)
	}
	if len(rows) == 0 {
		return admin.Account{}, missing(gorm.ErrRecordNotFound, "user")
	}
	return rows[0].account(), nil
}

// SetRoles implements admin.Store.
func (s *Admin) SetRoles(ctx context.Context, id uuid.UUID, roles []string, endSessions bool, e audit.Event) error {
	return s.accounts.change(ctx, id, func(tx *gorm.DB, row userRow) error {
		keeps := false
		rows := make([]roleRow, len(roles))
		for i, r := range roles {
			rows[i] = roleRow{UserID: id, Role: r}
			keeps = keeps || r == role.Admin
		}
		if !keeps {
			if err := keepAnAdmin(tx, id); err != nil {
				return err
			}
		}
		if err := tx.Where("user_id = ?", id).Delete(&roleRow{}).Error; err != nil {
			return fmt.Errorf("take roles away: %w", err)
		}
		if len(rows) > 0 {
			if err := tx.Create(&rows).Error; err != nil {
				return fmt.Errorf("give roles: %w", err)
			}
		}
		if endSessions {
			if _, err := revoke(tx, "ROLES_CHANGED", "user_id = ?", id); err != nil {
				return err
			}
		}
		return record(tx, e)
	})
}

// keepAnAdmin refuses to let the last enabled account with the role admin go.
// Call it in the transaction that takes the role from a user, or disables or
// deletes them, before it does: those transactions happen one after the other.
func keepAnAdmin(tx *gorm.DB, leaving uuid.UUID) error {
	if err := tx.Exec("SELECT pg_advisory_xact_lock(hashtext('purser: the last admin'))").Error; err != nil {
		return fmt.Errorf("lock the admins: %w", err)
	}
	var admins struct{ Leaving, Others bool }
	err := tx.Raw(`
		SELECT coalesce(bool_or(u.id = @leaving), false) AS leaving, coalesce(bool_or(u.id <> @leaving), false) AS others
		FROM user_roles r JOIN users u ON u.id = r.user_id
		WHERE r.role = @admin AND u.disabled_at IS NULL`, map[string]any{"leaving": leaving, "admin": role.Admin}).Scan(&admins).Error
	if err != nil {
		return fmt.Errorf("look for other admins: %w", err)
	}
	if admins.Leaving && !admins.Others {
		return admin.ErrLastAdmin()
	}
	return nil
}

// SetAttributes implements admin.Store.
func (s *Admin) SetAttributes(ctx context.Context, id uuid.UUID, attributes map[string]string, e audit.Event) error {
	return s.accounts.change(ctx, id, func(tx *gorm.DB, _ userRow) error {
		if err := tx.Model(&userRow{ID: id}).Select("Attributes").Updates(
			userRow{Attributes: attributes}).Error; err != nil {
			return fmt.Errorf("set attributes: %w", err)
		}
		return record(tx, e)
	})
}

// Disable implements admin.Store.
func (s *Admin) Disable(ctx context.Context, id uuid.UUID, e audit.Event) error {
	return s.accounts.change(ctx, id, func(tx *gorm.DB, row userRow) error {
		if row.DisabledAt != nil {
			return nil
		}
		if err := keepAnAdmin(tx, id); err != nil {
			return err
		}
		if err := tx.Exec("UPDATE users SET disabled_at = clock_timestamp() WHERE id = ?", id).Error; err != nil {
			return fmt.Errorf("disable user: %w", err)
		}
		if _, err := revoke(tx, "ACCOUNT_DISABLED", "user_id = ?", id); err != nil {
			return err
		}
		if err := announceAll(tx, id); err != nil {
			return err
		}
		return record(tx, e)
	})
}

// announceAll calls back every token of a user, those of their API keys too:
// by the key as well, for a signer whose clock is ahead may have issued one
// "after" the user was disabled.
func announceAll(tx *gorm.DB, user uuid.UUID) error {
	var keys []uuid.UUID
	if err := tx.Model(&apiKeyRow{}).Where("user_id = ? AND revoked_at IS NULL", user).Pluck("id",
		&keys).Error; err != nil {
		return fmt.Errorf("read API keys: %w", err)
	}
	if len(keys) > 0 {
		if err := announce(tx, revokedSession, keys...); err != nil {
			return err
		}
	}
	return announce(tx, revokedUser, user)
}

// Enable implements admin.Store.
func (s *Admin) Enable(ctx context.Context, id uuid.UUID, e audit.Event) error {
	return s.accounts.change(ctx, id, func(tx *gorm.DB, row userRow) error {
		if row.DisabledAt == nil {
			return nil
		}
		if err := tx.Model(&userRow{ID: id}).Select("DisabledAt").Updates(
			userRow{DisabledAt: (*time.Time)(nil)}).Error; err != nil {
			return fmt.Errorf("enable user: %w", err)
		}
		return record(tx, e)
	})
}
