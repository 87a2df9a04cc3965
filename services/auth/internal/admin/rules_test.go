package admin

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/account"
)

func TestOneEnabledAdminAlwaysRemains(t *testing.T) {
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
			s := account.State{User: account.User{ID: uuid.New()}, Admins: tc.admins}
			c, err := setRoles(s, uuid.New(), tc.roles, true)
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

func TestSessionsGoOnWithNewRolesUnlessTheyAreToEnd(t *testing.T) {
	c, err := setRoles(account.State{}, uuid.New(), []string{"trader"}, false)
	if err != nil || c.EndSessions != nil || c.Events[0].Object != "trader" {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestWhatIsDisabledOrEnabledAlreadyIsLeftAlone(t *testing.T) {
	disabled := account.State{DisabledAt: time.Now(), Admins: account.Admins{This: true}}
	if c, err := disable(disabled, uuid.New(), time.Now()); err != nil || c.DisabledAt != nil || c.Events != nil {
		t.Errorf("%+v, %v", c, err)
	}
	if c := enable(account.State{}, uuid.New()); c.DisabledAt != nil || c.Events != nil {
		t.Errorf("%+v", c)
	}
	if c := enable(disabled, uuid.New()); c.DisabledAt == nil || !c.DisabledAt.IsZero() || len(c.Events) != 1 {
		t.Errorf("%+v", c)
	}
}
