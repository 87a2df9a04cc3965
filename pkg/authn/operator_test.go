package authn_test

import (
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
)

func TestWhoPassesEachRequirementOfTheSignIn(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		name                       string
		caller                     authn.Caller
		person, recently, operator string
	}{
		{"a person, now", authn.Caller{Methods: []string{"pwd"}, AuthTime: now}, "", "", ""},
		{"a person, long ago", authn.Caller{Methods: []string{"pwd"},
			AuthTime: now.Add(-authn.MaxSignInAge - time.Second)}, "", "REAUTHENTICATION_REQUIRED",
			"REAUTHENTICATION_REQUIRED"},
		{"no time", authn.Caller{Methods: []string{"pwd"}}, "", "REAUTHENTICATION_REQUIRED",
			"REAUTHENTICATION_REQUIRED"},
		{"an API key", authn.Caller{Methods: []string{authn.MethodAPIKey}, AuthTime: now}, "API_KEY_CALLER",
			"API_KEY_CALLER", "API_KEY_CALLER"},
		{"a service", authn.Caller{Methods: []string{authn.MethodService}, AuthTime: now}, "SERVICE_CALLER",
			"SERVICE_CALLER", ""},
	} {
		for _, rule := range []struct {
			name, want string
			err        error
		}{{"Person", c.person, c.caller.RequirePerson()}, {"Recently", c.recently, c.caller.RequireRecentSignIn()},
			{"Operator", c.operator, c.caller.RequireOperator()}} {
			got := ""
			if e := errs.As(rule.err); e != nil {
				got = e.Reason
			}
			if got != rule.want {
				t.Errorf("%s of %s: %q, want %q", rule.name, c.name, got, rule.want)
			}
		}
	}
}
