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
	// DeleteAt is when it is deleted, as its owner asked for; zero unless that is planned. It is disabled until then.
	DeleteAt time.Time
	// InvitedAt is when an administrator invited the owner; zero once somebody proved to own the address.
	InvitedAt time.Time

	// Caller is what the caller of the change holds, everything where there is none.
	Caller authority.Held

	// NewEmail is the address that a code of ChangeEmail was mailed to, in a change by such a code.
	NewEmail string

	// The following are read only when Include says so.

	// Identities are those that are linked, APIKeys those that are not revoked. SecondFactor says that there is one,
	// also before it is confirmed; Sessions counts those that have not ended.
	Identities, APIKeys []Credential
	SecondFactor        bool
	Sessions            int
	// RecentMails counts the mails of a kind that were queued in the last hour, and SinceLastMail is how long ago the
	// last of them was, zero when there was none: of the kind with the most. For an address that nobody has proven
	// those of deleted accounts count as well.
	RecentMails   int
	SinceLastMail time.Duration
	Mailbox       Mailbox
	Admins        Admins
	// Factor is the confirmed second factor, Removal its pending removal, nil when there is none.
	Factor  SecondFactor
	Removal *Removal
}

// Mailbox is an address, which may be of any account or of none.
type Mailbox struct {
	Taken bool // an account has it
	// RecentMails counts the mails that were queued for it in the last hour, whoever asked for them; see
	// mail.Mail.PerMailbox.
	RecentMails int
}

// Credential is something that an account can be signed in with.
type Credential struct {
	ID      uuid.UUID
	AddedAt time.Time
}

// Include says what is read into a State beside the account's row.
type Include struct {
	Roles       bool // User.Roles
	Credentials bool // Identities, APIKeys, SecondFactor and Sessions
	RecentMails []mail.Kind
	// Mailbox is the address that State.Mailbox is of. It takes a lock, so that concurrent changes count each other's
	// mails.
	Mailbox string
	Factor  bool // Factor and Removal
	// Admins takes a lock that all changes of admins take, so that they happen one after the other.
	Admins bool
}

// Decide is a decision function: it returns what to change of an account in this state. now is the database's clock,
// read under the lock. It may be called more than once; only the last result is stored, and nothing if it fails.
type Decide func(s State, now time.Time) (Changes, error)

// Changes is what a decision function changes of an account. A Store writes all of it in the transaction that holds
// the lock. Zero fields change nothing.
type Changes struct {
	Profile *Profile
	// Email is the account's new address; errs.AlreadyExists (EMAIL_TAKEN) when another account has it.
	Email        string
	VerifiedAt   time.Time
	PasswordHash *string // the empty one removes the password
	Roles        *[]string
	Attributes   map[string]string
	DisabledAt   *time.Time // the zero one enables the account
	DeleteAt     *time.Time // the zero one cancels its deletion
	Delete       bool       // the account, with everything personal

	RemoveSecondFactor bool
	// Removal is to be pending; the zero one ends the one that is.
	Removal *Removal
	// EndCodes ends the mailed codes of these purposes; NewCode replaces those of its purpose, unless it says
	// otherwise.
	EndCodes []Purpose
	NewCode  *Code
	// EndSessions ends the sessions, and RevokeTokens every access token, those of API keys included.
	EndSessions      *SessionEnd
	KnowClient       bool // the client's address becomes one that has signed in to the account
	RevokeTokens     bool
	UnlinkIdentities []uuid.UUID
	RevokeAPIKeys    []uuid.UUID

	Mails  []mail.Mail
	Events []audit.Event

	// Removed tells whoever asked for the change what Prove removed; it is not stored.
	Removed Removed
}

// Code is a mailed code as stored.
type Code struct {
	Purpose  Purpose
	Hash     Hash
	Lifetime time.Duration
	NewEmail string // the address that it was mailed to, of ChangeEmail only
	// Beside leaves the earlier codes of the purpose valid.
	Beside bool
}

// SessionEnd says why sessions end. Except is one that goes on; zero when none does.
type SessionEnd struct {
	Reason string
	Except uuid.UUID
}

// addressed returns a mail that is about an account and goes to its address. Where nobody has proven that, it counts
// against the limit of the mailbox, which may be a stranger's: else whoever makes and deletes an account with it again
// and again would mail to them without a limit.
func (s State) addressed(m mail.Mail) mail.Mail {
	m.User, m.To, m.PerMailbox = s.ID, s.Email, !s.Proven()
	return m
}
