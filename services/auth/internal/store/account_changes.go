package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/role"
)

// The row of a user is the lock on their account: whatever changes how the account can be signed in with takes it
// first, together with the row of the caller (lockCaller). After it come, in this order, the lock on the admins, and
// the rows of the second factor, of codes, sessions, identities and API keys.

// Change implements account.Store.
func (s *Accounts) Change(ctx context.Context, id uuid.UUID, include account.Include, decide account.Decide) error {
	return s.change(ctx, func(tx *gorm.DB) (account.State, account.Changes, error) {
		return changeByCaller(tx, id, include, decide)
	})
}

// ChangeByEmail implements account.Store.
func (s *Accounts) ChangeByEmail(ctx context.Context, email string, include account.Include,
	decide account.Decide) error {
	return s.change(ctx, func(tx *gorm.DB) (account.State, account.Changes, error) {
		state, now, err := lockAccount(tx, "email = ?", email)
		if errs.Is(err, errs.KindNotFound) {
			c, err := decide(account.State{}, now)
			if err != nil {
				return state, c, err
			}
			return state, account.Changes{}, recordAll(tx, c.Events)
		}
		if err != nil {
			return state, account.Changes{}, err
		}
		c, err := decideOn(tx, &state, now, include, decide)
		return state, c, err
	})
}

// change runs fn in a transaction and stores what it decided. Then it invalidates the cached user.
func (s *Accounts) change(ctx context.Context,
	fn func(tx *gorm.DB) (account.State, account.Changes, error)) error {
	err := cache.Change(ctx, s.db, func(tx *gorm.DB) ([]cache.Invalidation, error) {
		state, c, err := fn(tx)
		if err != nil {
			return nil, err
		}
		if err := apply(tx, state, c); err != nil || !changesUser(c) {
			return nil, err
		}
		return s.stale(state.ID), nil
	})
	s.mails.signalQueued()
	return err
}

// changesUser reports whether changes are of what is cached of a user.
func changesUser(c account.Changes) bool {
	return c.Profile != nil || c.Email != "" || !c.VerifiedAt.IsZero() || c.Roles != nil || c.Delete
}

func (s *Accounts) stale(user uuid.UUID) []cache.Invalidation {
	return []cache.Invalidation{{Cache: s.users, Keys: []string{user.String()}}}
}

// changeByCaller locks the caller and an account, theirs or another, and decides.
func changeByCaller(tx *gorm.DB, id uuid.UUID, include account.Include, decide account.Decide) (account.State,
	account.Changes, error) {
	state, now, err := lockCallerAndAccount(tx, id)
	if err != nil {
		return state, account.Changes{}, err
	}
	c, err := decideOn(tx, &state, now, include, decide)
	return state, c, err
}

// decideOn completes the state of a locked account and decides.
func decideOn(tx *gorm.DB, s *account.State, now time.Time, include account.Include,
	decide account.Decide) (account.Changes, error) {
	if err := complete(tx, s, include); err != nil {
		return account.Changes{}, err
	}
	return decide(*s, now)
}

func decideAndApply(tx *gorm.DB, s account.State, now time.Time, include account.Include,
	decide account.Decide) error {
	c, err := decideOn(tx, &s, now, include, decide)
	if err != nil {
		return err
	}
	return apply(tx, s, c)
}

// lockAccount locks the account that meets a condition, and reads it and then the clock; errs.NotFound.
func lockAccount(tx *gorm.DB, condition string, arg any) (account.State, time.Time, error) {
	var rows []struct {
		User userRow `gorm:"embedded"`
		Now  time.Time
	}
	err := tx.Raw("SELECT u.*, clock_timestamp() AS now FROM (SELECT * FROM users WHERE "+condition+" FOR UPDATE) u",
		arg).Scan(&rows).Error
	if err != nil {
		return account.State{}, time.Time{}, fmt.Errorf("lock user: %w", err)
	}
	if len(rows) == 0 {
		return account.State{}, time.Time{}, errs.NotFound("user")
	}
	row := rows[0].User
	return account.State{User: row.user(), PasswordHash: orEmpty(row.PasswordHash),
			DisabledAt: orZero(row.DisabledAt), DeleteAt: orZero(row.DeleteAt), InvitedAt: orZero(row.InvitedAt)},
		rows[0].Now.UTC(), nil
}

// complete reads what is to be included.
func complete(tx *gorm.DB, s *account.State, include account.Include) (err error) {
	if include.Admins {
		if s.Admins, err = lockAdmins(tx, s.ID); err != nil {
			return err
		}
	}
	if include.Roles {
		is, err := accessState(tx, s.ID)
		if err != nil {
			return err
		}
		s.Roles = is.Roles
	}
	if include.Credentials {
		s.Identities, err = credentials(tx.Model(&identityRow{}).Where("user_id = ?", s.ID))
		if err != nil {
			return fmt.Errorf("read identities: %w", err)
		}
		s.APIKeys, err = credentials(tx.Model(&apiKeyRow{}).Where("user_id = ? AND revoked_at IS NULL", s.ID))
		if err != nil {
			return fmt.Errorf("read API keys: %w", err)
		}
		if err := countSetup(tx, s); err != nil {
			return err
		}
	}
	if include.Factor {
		if s.Factor, s.Removal, err = secondFactorAndRemoval(tx, s.ID); err != nil {
			return err
		}
	}
	var mailbox []byte
	if s.VerifiedAt.IsZero() {
		mailbox = mailboxOf(s.Email)
	}
	for _, kind := range include.RecentMails {
		n, sinceLast, err := recentMails(tx, s.ID, mailbox, kind)
		if err != nil {
			return err
		}
		if n > s.RecentMails {
			s.RecentMails, s.SinceLastMail = n, sinceLast
		}
	}
	if include.Mailbox != "" {
		s.Mailbox, err = lockMailbox(tx, include.Mailbox)
	}
	return err
}

// countSetup reads whether there is a second factor, and counts the sessions that have not ended.
func countSetup(tx *gorm.DB, s *account.State) error {
	var found struct {
		SecondFactor bool
		Sessions     int
	}
	err := tx.Raw(`SELECT EXISTS (SELECT FROM second_factors WHERE user_id = @user) AS second_factor,
			(SELECT count(*) FROM sessions WHERE user_id = @user AND revoked_at IS NULL
				AND least(expires_at, current_expires_at) > clock_timestamp()) AS sessions`,
		map[string]any{"user": s.ID}).Scan(&found).Error
	if err != nil {
		return fmt.Errorf("count what was set up: %w", err)
	}
	s.SecondFactor, s.Sessions = found.SecondFactor, found.Sessions
	return nil
}

func credentials(q *gorm.DB) ([]account.Credential, error) {
	var rows []struct {
		ID        uuid.UUID
		CreatedAt time.Time
	}
	if err := q.Select("id", "created_at").Order("id").Find(&rows).Error; err != nil {
		return nil, err
	}
	list := make([]account.Credential, len(rows))
	for i, r := range rows {
		list[i] = account.Credential{ID: r.ID, AddedAt: r.CreatedAt}
	}
	return list, nil
}

// lockAdmins reads the enabled admins, as one account sees them. The lock lasts until the end of the transaction, so
// that two admins who demote, disable or delete each other do so one after the other.
func lockAdmins(tx *gorm.DB, user uuid.UUID) (a account.Admins, err error) {
	if err := tx.Exec("SELECT pg_advisory_xact_lock(hashtext('purser: the last admin'))").Error; err != nil {
		return a, fmt.Errorf("lock the admins: %w", err)
	}
	err = tx.Raw(`
		SELECT coalesce(bool_or(u.id = @user), false) AS this, coalesce(bool_or(u.id <> @user), false) AS others
		FROM user_roles r JOIN users u ON u.id = r.user_id
		WHERE r.role = @admin AND u.disabled_at IS NULL AND u.invited_at IS NULL`,
		map[string]any{"user": user, "admin": role.Admin}).Scan(&a).Error
	if err != nil {
		return a, fmt.Errorf("read the admins: %w", err)
	}
	return a, nil
}

// apply stores changes of a locked account.
func apply(tx *gorm.DB, s account.State, c account.Changes) error {
	for _, step := range []func(*gorm.DB, account.State, account.Changes) error{
		applyToUser, applyToSecondFactor, applyToRemoval, applyToCodes, applyToSessions, applyToDevices,
		applyToCredentials,
		applyDeletion,
	} {
		if err := step(tx, s, c); err != nil {
			return err
		}
	}
	for _, m := range c.Mails {
		if err := queueMail(tx, m); err != nil {
			return err
		}
	}
	if err := recordAll(tx, append(accepted(s, c), c.Events...)); err != nil {
		return err
	}
	if !c.Delete {
		return nil
	}
	if err := erasePersonal(tx, s.ID); err != nil {
		return err
	}
	return recordDeletion(tx, s.ID)
}

func recordAll(tx *gorm.DB, events []audit.Event) error {
	for _, e := range events {
		if err := record(tx, e); err != nil {
			return err
		}
	}
	return nil
}

func applyToUser(tx *gorm.DB, s account.State, c account.Changes) error {
	row, fields := userRow{ID: s.ID}, []string(nil)
	if c.Profile != nil {
		row.Profile = profileColumnsOf(*c.Profile)
		fields = append(fields, "DisplayName", "FirstName", "LastName", "Bio", "PictureURL")
	}
	if c.Email != "" {
		row.Email, fields = &c.Email, append(fields, "Email")
	}
	if !c.VerifiedAt.IsZero() {
		row.VerifiedAt, fields = &c.VerifiedAt, append(fields, "VerifiedAt", "InvitedAt")
	}
	if c.PasswordHash != nil {
		fields = append(fields, "PasswordHash")
		if *c.PasswordHash != "" {
			row.PasswordHash = c.PasswordHash
		}
	}
	if c.Attributes != nil {
		row.Attributes, fields = c.Attributes, append(fields, "Attributes")
	}
	if c.DisabledAt != nil {
		row.DisabledAt, fields = nullTime(*c.DisabledAt), append(fields, "DisabledAt")
	}
	if c.DeleteAt != nil {
		row.DeleteAt, fields = nullTime(*c.DeleteAt), append(fields, "DeleteAt")
	}
	if len(fields) > 0 {
		err := tx.Select(fields).Updates(&row).Error
		if c.Email != "" && postgres.IsUniqueViolation(err, "users_email_key") {
			return errs.AlreadyExists("EMAIL_TAKEN", "another account has got this e-mail address meanwhile; sign in "+
				"to that one")
		}
		if err != nil {
			return fmt.Errorf("update user: %w", err)
		}
	}
	if c.Roles == nil {
		return nil
	}
	if err := tx.Where("user_id = ?", s.ID).Delete(&roleRow{}).Error; err != nil {
		return fmt.Errorf("delete roles: %w", err)
	}
	return addRoles(tx, s.ID, *c.Roles)
}

func applyToSecondFactor(tx *gorm.DB, s account.State, c account.Changes) error {
	if !c.RemoveSecondFactor {
		return nil
	}
	if err := tx.Where("user_id = ?", s.ID).Delete(&secondFactorRow{}).Error; err != nil {
		return fmt.Errorf("delete second factor: %w", err)
	}
	return nil
}

func applyToSessions(tx *gorm.DB, s account.State, c account.Changes) error {
	if c.EndSessions == nil {
		return nil
	}
	_, err := endSessions(tx, s.ID, c.EndSessions.Except, c.EndSessions.Reason)
	return err
}

// applyToDevices makes the client's address known. It comes after the end of the sessions, which forgets the devices.
func applyToDevices(tx *gorm.DB, s account.State, c account.Changes) error {
	if !c.KnowClient {
		return nil
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("new device id: %w", err)
	}
	return storeDevice(tx, s.ID, id)
}

func applyToCredentials(tx *gorm.DB, s account.State, c account.Changes) error {
	if len(c.UnlinkIdentities) > 0 {
		err := tx.Where("user_id = ? AND id IN ?", s.ID, c.UnlinkIdentities).Delete(&identityRow{}).Error
		if err != nil {
			return fmt.Errorf("unlink identities: %w", err)
		}
	}
	if len(c.RevokeAPIKeys) > 0 {
		if _, err := revokeAPIKeys(tx, s.ID, c.RevokeAPIKeys); err != nil {
			return err
		}
	}
	if c.RevokeTokens {
		return announceAll(tx, s.ID)
	}
	return nil
}

// announceAll revokes every token of a user, and those of each API key by the key's id as well: a signer whose clock
// is ahead may issue one that seems to be newer than the revocation of the user.
func announceAll(tx *gorm.DB, user uuid.UUID) error {
	var keys []uuid.UUID
	err := tx.Model(&apiKeyRow{}).Where("user_id = ? AND revoked_at IS NULL", user).Pluck("id", &keys).Error
	if err != nil {
		return fmt.Errorf("read API keys: %w", err)
	}
	if len(keys) > 0 {
		if err := announce(tx, revokedSession, keys...); err != nil {
			return err
		}
	}
	return announce(tx, revokedUser, user)
}

// applyDeletion deletes a user; the rows that belong to them are deleted with theirs.
func applyDeletion(tx *gorm.DB, s account.State, c account.Changes) error {
	if !c.Delete {
		return nil
	}
	if err := eraseMails(tx, s.ID); err != nil {
		return err
	}
	if err := tx.Where("id = ?", s.ID).Delete(&userRow{}).Error; err != nil {
		return fmt.Errorf("delete user: %w", err)
	}
	return nil
}

// erasePersonal erases where the events of a user came from; the events stay.
func erasePersonal(tx *gorm.DB, user uuid.UUID) error {
	err := tx.Exec(`DELETE FROM audit_personal
		WHERE subject = ? OR event_id IN (SELECT id FROM audit_events WHERE actor = ?)`, user, user).Error
	if err != nil {
		return fmt.Errorf("erase where events came from: %w", err)
	}
	return nil
}
