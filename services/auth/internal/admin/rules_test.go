package admin

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/authority"
)

// everything is what the command line holds.
var everything = authority.Held{All: true}

func TestOneEnabledAdminAlwaysRemains(t *testing.T) {
	end := true
	for name, tc := range map[string]struct {
		admins  account.Admins
		roles   []string
		refused bool // SetRoles
		stays   bool // as to Disable
	}{
		"the last admin becomes a trader":  {account.Admins{This: true}, []string{"trader"}, true, true},
		"the last admin loses every role":  {account.Admins{This: true}, nil, true, true},
		"the last admin stays one":         {account.Admins{This: true}, []string{"admin", "trader"}, false, true},
		"one of two admins":                {account.Admins{This: true, Others: true}, nil, false, false},
		"no admin, beside one":             {account.Admins{Others: true}, nil, false, false},
		"no admin, where there is none":    {account.Admins{}, nil, false, false},
		"a new admin, where there is none": {account.Admins{}, []string{"admin"}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := account.State{User: account.User{ID: uuid.New()}, Caller: everything, Admins: tc.admins}
			c, err := setRoles(s, uuid.New(), tc.roles, &end)
			if e := errs.As(err); tc.refused != (e != nil && e.Reason == "LAST_ADMIN") || tc.refused == (err == nil) ||
				err == nil && (len(*c.Roles) != len(tc.roles) || c.EndSessions.Reason != "ROLES_CHANGED") {
				t.Errorf("roles: %+v, %v", c, err)
			}
			d, err := disable(s, uuid.New(), time.Now())
			if e := errs.As(err); tc.stays != (e != nil && e.Reason == "LAST_ADMIN") ||
				err == nil && (d.DisabledAt == nil || !d.RevokeTokens || d.EndSessions.Reason != "ACCOUNT_DISABLED") {
				t.Errorf("disable: %+v, %v", d, err)
			}
		})
	}
}

func TestSessionsAndTokensEndWhenAPermissionIsTaken(t *testing.T) {
	yes, no := true, false
	for name, tc := range map[string]struct {
		before, after []string
		said          *bool
		end           bool
	}{
		"a permission is taken":                  {[]string{"admin"}, []string{"trader"}, nil, true},
		"every role is taken":                    {[]string{"trader"}, nil, nil, true},
		"a permission is given":                  {[]string{"trader"}, []string{"admin", "trader"}, nil, false},
		"nothing changes":                        {[]string{"trader"}, []string{"trader"}, nil, false},
		"a role with the same permissions":       {[]string{"trader"}, []string{"fund_manager"}, nil, false},
		"taken, and the sessions are to go on":   {[]string{"admin"}, []string{"trader"}, &no, false},
		"given, and the sessions are to end too": {nil, []string{"trader"}, &yes, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := account.State{User: account.User{Roles: tc.before}, Caller: everything,
				Admins: account.Admins{Others: true}}
			c, err := setRoles(s, uuid.New(), tc.after, tc.said)
			if err != nil || (c.EndSessions != nil) != tc.end || c.RevokeTokens != tc.end {
				t.Errorf("%+v, %v", c, err)
			}
		})
	}
}

func TestNobodyChangesAnAccountThatMayMore(t *testing.T) {
	clerk := authority.Held{Permissions: []string{"admin:users", "wallet:read"}}
	for name, tc := range map[string]struct {
		roles   []string
		refused bool
	}{
		"an admin":             {[]string{"admin"}, true},
		"somebody without any": {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := account.State{User: account.User{ID: uuid.New(), Roles: tc.roles}, Caller: clerk,
				Admins: account.Admins{This: true, Others: true}}
			_, roles := setRoles(s, uuid.New(), nil, nil)
			_, disabled := disable(s, uuid.New(), time.Now())
			s.DisabledAt = time.Now()
			_, enabled := enable(s, uuid.New())
			for what, err := range map[string]error{"roles": roles, "disable": disabled, "enable": enabled,
				"attributes": mayChange(s)} {
				e := errs.As(err)
				if tc.refused != (e != nil && e.Reason == "PERMISSION_NOT_HELD") || !tc.refused && err != nil {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
	}
}

func TestWhatIsDisabledOrEnabledAlreadyIsLeftAlone(t *testing.T) {
	disabled := account.State{Caller: everything, DisabledAt: time.Now(), Admins: account.Admins{This: true}}
	if c, err := disable(disabled, uuid.New(), time.Now()); err != nil || c.DisabledAt != nil || c.Events != nil {
		t.Errorf("%+v, %v", c, err)
	}
	if c, err := enable(account.State{}, uuid.New()); err != nil || c.DisabledAt != nil || c.Events != nil {
		t.Errorf("%+v", c)
	}
	c, err := enable(disabled, uuid.New())
	if err != nil || c.DisabledAt == nil || !c.DisabledAt.IsZero() || len(c.Events) != 1 {
		t.Errorf("%+v", c)
	}
}
