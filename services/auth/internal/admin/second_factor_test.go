package admin

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/role"
)

func TestADueRemovalHappensUnlessSomethingSpeaksAgainstIt(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	factor := account.SecondFactor{ConfirmedAt: now.Add(-time.Hour), LastStep: 7, RecoveryCodes: 10}
	clerk := append([]string{role.ManageUsers}, role.Permissions([]string{role.Trader})...)
	const used, lost = "SECOND_FACTOR_USED", "ADMIN_LOST_PERMISSION"
	for name, tc := range map[string]struct {
		change func(s *account.State)
		reason string // "" when it is removed, "-" when nothing happens
	}{
		"nothing":                      {func(*account.State) {}, ""},
		"none is pending":              {func(s *account.State) { s.Removal = nil }, "-"},
		"it is not due":                {func(s *account.State) { s.Removal.Due = now.Add(time.Microsecond) }, "-"},
		"a code was used":              {func(s *account.State) { s.Factor.LastStep++ }, used},
		"a recovery code was used":     {func(s *account.State) { s.Factor.RecoveryCodes-- }, used},
		"it was enrolled again":        {func(s *account.State) { s.Factor.ConfirmedAt = now }, used},
		"it is gone":                   {func(s *account.State) { s.Factor = account.SecondFactor{} }, used},
		"the admin is none any more":   {func(s *account.State) { s.Removal.ByHolds = clerk[1:] }, lost},
		"the admin is gone":            {func(s *account.State) { s.Removal.ByHolds = nil }, lost},
		"the account may more by then": {func(s *account.State) { s.Roles = []string{"admin"} }, lost},
	} {
		t.Run(name, func(t *testing.T) {
			s := account.State{User: account.User{ID: uuid.New(), Roles: []string{"trader"}}, Factor: factor,
				Removal: &account.Removal{By: uuid.New(), ByHolds: clerk, Due: now, Factor: factor}}
			tc.change(&s)
			c := removeDue(s, now)
			got := "-"
			if len(c.Events) > 0 {
				got = c.Events[0].Reason
			}
			want := tc.reason
			if want == "" {
				want = "REMOVED_BY_ADMIN"
			}
			if got != want || c.RemoveSecondFactor != (tc.reason == "") || c.RevokeTokens != c.RemoveSecondFactor {
				t.Errorf("%+v", c)
			}
		})
	}
}
