package authority

import (
	"slices"
	"testing"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
)

func TestACallerHoldsWhatIsStoredAndTheTokenCarries(t *testing.T) {
	caller := authn.Caller{Permissions: []string{"admin:users", "wallet:read"}}
	for name, tc := range map[string]struct {
		state    State
		required string
		holds    []string
		reason   string
	}{
		"everything as the token says": {State{Active: true, Permissions: []string{"admin:users", "wallet:read"}},
			"admin:users", []string{"admin:users", "wallet:read"}, ""},
		"a permission was taken": {State{Active: true, Permissions: []string{"wallet:read"}}, "admin:users", nil,
			"PERMISSION_MISSING"},
		"another one was taken": {State{Active: true, Permissions: []string{"admin:users"}}, "admin:users",
			[]string{"admin:users"}, ""},
		"one was given since": {State{Active: true, Permissions: []string{"admin:system"}}, "", nil, ""},
		"the session has ended": {State{Permissions: []string{"admin:users"}}, "admin:users", nil,
			"SESSION_REVOKED"},
		"the account is disabled":   {State{Active: true, Disabled: true}, "", nil, "ACCOUNT_DISABLED"},
		"no permission is required": {State{Active: true}, "", nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			held, err := Decide(caller, tc.state, tc.required)
			reason := ""
			if e := errs.As(err); e != nil {
				reason = e.Reason
			}
			if reason != tc.reason || !slices.Equal(held.Permissions, tc.holds) || held.All {
				t.Errorf("%+v, %v", held, err)
			}
		})
	}
}

func TestNobodyGivesWhatTheyDoNotHold(t *testing.T) {
	if err := (Held{All: true}).Require("admin:users"); err != nil {
		t.Error(err)
	}
	some := Held{Permissions: []string{"wallet:read"}}
	if err := some.Require("wallet:read"); err != nil {
		t.Error(err)
	}
	if e := errs.As(some.Require("wallet:read", "admin:users")); e == nil || e.Reason != "PERMISSION_NOT_HELD" {
		t.Error(e)
	}
}
