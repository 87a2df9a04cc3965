package mail

import (
	"strings"

	"github.com/purserhq/purser/services/auth/internal/audit"
)

// The kinds of notices. Each is the name by which PURSER_NOTICE_MAILS_OFF turns it off.
const (
	AddressConfirmed     Kind = "address_confirmed"
	PasswordChanged      Kind = "password_changed"
	EmailChanged         Kind = "email_changed"
	SecondFactorEnabled  Kind = "second_factor_enabled"
	SecondFactorDisabled Kind = "second_factor_disabled"
	RecoveryCodeUsed     Kind = "recovery_code_used"
	RecoveryCodesRenewed Kind = "recovery_codes_renewed"
	IdentityLinked       Kind = "identity_linked"
	IdentityUnlinked     Kind = "identity_unlinked"
	APIKeyCreated        Kind = "api_key_created"
	NewDevice            Kind = "new_device"
)

// notice is what the owner of an account is told of: an event of this type that was not refused.
type notice struct {
	event audit.Type
	kind  Kind
	// except is a reason of the event for which nobody is told.
	except string
}

// table has every notice.
func table() []notice {
	return []notice{
		{audit.AccountReclaimed, AddressConfirmed, ""},
		{audit.PasswordChanged, PasswordChanged, ""},
		{audit.PasswordReset, PasswordChanged, ""},
		{audit.EmailChanged, EmailChanged, ""},
		{audit.SecondFactorConfirmed, SecondFactorEnabled, ""},
		{audit.SecondFactorDisabled, SecondFactorDisabled, ""},
		{audit.RecoveryCodeUsed, RecoveryCodeUsed, ""},
		{audit.RecoveryCodesRenewed, RecoveryCodesRenewed, ""},
		{audit.IdentityLinked, IdentityLinked, "ACCOUNT_CREATED"}, // by the sign-in that made the account
		{audit.IdentityUnlinked, IdentityUnlinked, ""},
		{audit.APIKeyCreated, APIKeyCreated, ""},
		{audit.NewDevice, NewDevice, ""},
	}
}

// Notices are the kinds of notices, in the order of the documentation.
func Notices() []Kind {
	var all []Kind
	for _, n := range table() {
		if len(all) == 0 || all[len(all)-1] != n.kind {
			all = append(all, n.kind)
		}
	}
	return all
}

func noticeNames() string {
	var names []string
	for _, k := range Notices() {
		names = append(names, string(k))
	}
	return strings.Join(names, ", ")
}

// NoticeOf returns the mail that tells the owner of an account of an event; false when they are not told.
func NoticeOf(e audit.Event) (Kind, bool) {
	if e.Outcome == audit.Refused {
		return "", false
	}
	for _, n := range table() {
		if n.event == e.Type && (n.except == "" || n.except != e.Reason) {
			return n.kind, true
		}
	}
	return "", false
}
