package session

import (
	"testing"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/account"
)

func TestASessionBeginsOnlyOnWhatIsStillValid(t *testing.T) {
	signed := account.AccessState{Roles: []string{"trader"}, Attributes: map[string]string{"tier": "gold"}}
	same := Owner{Access: signed, PasswordHash: "hash", Linked: true}
	with := func(change func(*Owner)) Owner {
		o := same
		change(&o)
		return o
	}
	byPassword, byIdentity := Proof{PasswordHash: "hash"}, Proof{Identity: uuid.New()}
	for name, tc := range map[string]struct {
		proof  Proof
		owner  Owner
		reason string
	}{
		"a password": {byPassword, same, ""},
		"a password that was changed": {byPassword, with(func(o *Owner) { o.PasswordHash = "new" }),
			"INVALID_CREDENTIALS"},
		"a password that was removed": {byPassword, with(func(o *Owner) { o.PasswordHash = "" }),
			"INVALID_CREDENTIALS"},
		"a password, and no identity": {byPassword, with(func(o *Owner) { o.Linked = false }), ""},
		"an identity":                 {byIdentity, same, ""},
		"an identity that was unlinked": {byIdentity, with(func(o *Owner) { o.Linked = false }),
			"IDENTITY_UNLINKED"},
		"an identity, and another password": {byIdentity, with(func(o *Owner) { o.PasswordHash = "new" }), ""},
		"a disabled account": {byIdentity, with(func(o *Owner) { o.Access.Disabled = true }),
			"ACCOUNT_DISABLED"},
		"a wrong password of a disabled one": {byPassword, Owner{Access: account.AccessState{Disabled: true}},
			"INVALID_CREDENTIALS"},
		"a role less": {byPassword, with(func(o *Owner) { o.Access.Roles = nil }),
			"TRY_AGAIN"},
		"another attribute": {byPassword, with(func(o *Owner) { o.Access.Attributes = nil }),
			"TRY_AGAIN"},
	} {
		t.Run(name, func(t *testing.T) {
			err := tc.proof.check(tc.owner, signed)
			if e := errs.As(err); tc.reason == "" && err != nil ||
				tc.reason != "" && (e == nil || e.Reason != tc.reason) {
				t.Errorf("answered %v, want %q", err, tc.reason)
			}
		})
	}
}
