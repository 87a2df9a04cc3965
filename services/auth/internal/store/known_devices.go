package store

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/device"
	"github.com/purserhq/purser/services/auth/internal/session"
)

// KnowsDevice implements session.Store.
func (s *Sessions) KnowsDevice(ctx context.Context, email string, d device.Device) (bool, error) {
	return s.knows(ctx, email, "d.id = ? AND d.user_id = ?", d.ID, d.User)
}

// KnowsAddress implements session.Store.
func (s *Sessions) KnowsAddress(ctx context.Context, email, ipAddress string) (bool, error) {
	return s.knows(ctx, email, "d.ip_address = ? AND d.ip_address <> ''", ipAddress)
}

func (s *Sessions) knows(ctx context.Context, email, condition string, args ...any) (bool, error) {
	known, err := exists(s.db.Gorm(ctx), `SELECT d.id FROM known_devices d JOIN users u ON u.id = d.user_id
		WHERE u.email = ? AND d.expires_at > clock_timestamp() AND `+condition+" LIMIT 1",
		append([]any{withoutNUL(email)}, args...)...)
	if err != nil {
		return false, fmt.Errorf("look for a known device: %w", err)
	}
	return known, nil
}

// readDevices reads what a locked owner's devices are to a sign-in.
func readDevices(tx *gorm.DB, o *session.Owner, user uuid.UUID, v session.SignInContext) error {
	client := audit.ClientFrom(tx.Statement.Context)
	var rows []struct {
		ID                   uuid.UUID
		IPAddress, UserAgent string
	}
	err := tx.Raw(`SELECT id, ip_address, user_agent FROM known_devices
		WHERE user_id = ? AND expires_at > clock_timestamp() ORDER BY last_used_at DESC`, user).Scan(&rows).Error
	if err != nil {
		return fmt.Errorf("read known devices: %w", err)
	}
	o.SignedInBefore = len(rows) > 0
	alike := uuid.Nil
	for _, r := range rows {
		here := r.IPAddress == client.IPAddress && client.IPAddress != ""
		o.AddressKnown = o.AddressKnown || here
		if r.ID == v.Device {
			o.Device = r.ID
		}
		if here && r.UserAgent == client.UserAgent && alike == uuid.Nil {
			alike = r.ID
		}
	}
	if o.Device == uuid.Nil {
		o.Device = alike
	}
	if !o.SignedInBefore {
		if o.SignedInBefore, err = exists(tx, "SELECT id FROM sessions WHERE user_id = ? LIMIT 1", user); err != nil {
			return fmt.Errorf("look for a session: %w", err)
		}
	}
	return nil
}

// storeDevice makes the device of a sign-in known, or known for longer. Of an account with too many, those that signed
// in the longest ago are forgotten, with those that have expired.
func storeDevice(tx *gorm.DB, user, id uuid.UUID) error {
	client := audit.ClientFrom(tx.Statement.Context)
	err := tx.Exec(`INSERT INTO known_devices
			(id, user_id, created_at, last_used_at, expires_at, ip_address, user_agent)
		VALUES (?, ?, clock_timestamp(), clock_timestamp(), clock_timestamp() + ? * interval '1 microsecond', ?, ?)
		ON CONFLICT (id) DO UPDATE SET last_used_at = excluded.last_used_at, expires_at = excluded.expires_at,
			ip_address = excluded.ip_address, user_agent = excluded.user_agent`,
		id, user, device.TTL.Microseconds(), client.IPAddress, client.UserAgent).Error
	if err != nil {
		return fmt.Errorf("store device: %w", err)
	}
	err = tx.Exec(`DELETE FROM known_devices WHERE user_id = ? AND (expires_at <= clock_timestamp() OR id IN (
		SELECT id FROM known_devices WHERE user_id = ? ORDER BY last_used_at DESC OFFSET ?))`,
		user, user, device.MaxPerAccount).Error
	if err != nil {
		return fmt.Errorf("forget devices: %w", err)
	}
	return nil
}

// forgetDevices forgets the devices of a user, except that of a session.
func forgetDevices(tx *gorm.DB, user, except uuid.UUID) error {
	err := tx.Exec(`DELETE FROM known_devices WHERE user_id = ? AND id IS DISTINCT FROM
		(SELECT device_id FROM sessions WHERE id = ?)`, user, except).Error
	if err != nil {
		return fmt.Errorf("forget devices: %w", err)
	}
	return nil
}

// forgetDeviceOf forgets the device of a session.
func forgetDeviceOf(tx *gorm.DB, user, session uuid.UUID) error {
	err := tx.Exec(`DELETE FROM known_devices WHERE user_id = ? AND id =
		(SELECT device_id FROM sessions WHERE id = ?)`, user, session).Error
	if err != nil {
		return fmt.Errorf("forget device: %w", err)
	}
	return nil
}

// PruneDevices deletes the devices that are not known any more.
func (s *Sessions) PruneDevices(ctx context.Context) error {
	err := s.db.Gorm(ctx).Exec("DELETE FROM known_devices WHERE expires_at < clock_timestamp()").Error
	if err != nil {
		return fmt.Errorf("prune devices: %w", err)
	}
	return nil
}
