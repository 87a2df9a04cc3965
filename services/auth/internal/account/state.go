package account

import (
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/authority"
	"github.com/purserhq/purser/services/auth/internal/mail"
)

// State is an account as a decision function gets it, read while its row is locked.
type State struct {
	User         // without Roles, unless they are included
	PasswordHash string
	DisabledAt   time.Time // zero unless it is disabled
	// InvitedAt is when an administrator invited the owner; zero once somebody proved to own the address.
	InvitedAt time.Time

	// Caller is what the caller of the change holds, everything where there is none.
	Caller authority.Held

	// The following are read only when Include says so.

	// Identities are those that are linked, APIKeys those that are not revoked.
	Identities, APIKeys []Credential
	// RecentMails counts the mails of one kind that were queued in the last hour.
	RecentMails int
	Admins      Admins
	// SecondFactor is the confirmed one, Removal its pending removal, nil when there is none.
	SecondFactor SecondFactor
	Removal      *Removal
}

// Credential is something that an account can be signed in with.
type Credential struct {
	ID      uuid.UUID
	AddedAt time.Time
}

// Include says what is read into a State beside the account's row.
type Include struct {
	Roles        bool      // User.Roles
	Credentials  bool      // Identities and APIKeys
	RecentMails  mail.Kind // the mails of this kind; none when empty
	SecondFactor bool      // SecondFactor and Removal
	// Admins takes a lock that all changes of admins take, so that they happen one after the other.
	Admins bool
}

// Decide is a decision function: it returns what to change of an account in this state. now is the database's clock,
// read under the lock. It may be called more than once; only the last result is stored, and nothing if it fails.
type Decide func(s State, now time.Time) (Changes, error)

// Changes is what a decision function changes of an account. A Store writes all of it in the transaction that holds
// the lock. Zero fields change nothing.
type Changes struct {
	Profile      *Profile
	VerifiedAt   time.Time
	PasswordHash *string // the empty one removes the password
	Roles        *[]string
	Attributes   map[string]string
	DisabledAt   *time.Time // the zero one enables the account
	Delete       bool       // the account, with everything personal

	RemoveSecondFactor bool
	// Removal is to be pending; the zero one ends the one that is.
	Removal *Removal
	// EndCodes ends the mailed codes of a purpose; NewCode replaces the one of its purpose.
	EndCodes Purpose
	NewCode  *Code
	// EndSessions ends the sessions, and RevokeTokens every access token, those of API keys included.
	EndSessions      *SessionEnd
	RevokeTokens     bool
	UnlinkIdentities []uuid.UUID
	RevokeAPIKeys    []uuid.UUID

	Mails  []mail.Mail
	Events []audit.Event
}

// Code is a mailed code as stored.
type Code struct {
	Purpose  Purpose
	Hash     Hash
	Lifetime time.Duration
}

// SessionEnd says why sessions end. Except is one that goes on; zero when none does.
type SessionEnd struct {
	Reason string
	Except uuid.UUID
}

// addressed returns a mail that is about an account and goes to its address.
func (s State) addressed(m mail.Mail) mail.Mail {
	m.User, m.To = s.ID, s.Email
	return m
}
