package policy_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/purserhq/purser/proto/access"
	authapp "github.com/purserhq/purser/services/auth/app"
)

// inCode are the permissions that no method's rule asks for, with the file that does and the text there.
func inCode() map[string][2]string {
	return map[string][2]string{
		"client:forward": {"services/auth/internal/rpc/client_address.go", "role.ForwardClient"},
		"wallet:any":     {"services/wallet/internal/rpc/holdings.go", `"wallet:any"`},
	}
}

// permissionViolations lists the permissions that a role grants and nothing asks for, and those that are asked for
// and that no role grants.
func permissionViolations(granted, asked []string) []string {
	var found []string
	for _, p := range granted {
		if !slices.Contains(asked, p) {
			found = append(found, fmt.Sprintf("a role grants %s, which nothing asks for: remove it until "+
				"something does", p))
		}
	}
	for _, p := range asked {
		if !slices.Contains(granted, p) {
			found = append(found, fmt.Sprintf("%s is asked for, and no role grants it", p))
		}
	}
	return found
}

func TestEveryPermissionIsAskedForAndGranted(t *testing.T) {
	var granted, asked []string
	for _, r := range authapp.Roles() {
		granted = append(granted, r.Permissions...)
	}
	for _, m := range registeredMethods() {
		if rule, _ := access.Lookup(m); rule.Permission != "" {
			asked = append(asked, rule.Permission)
		}
	}
	for p, use := range inCode() {
		asked = append(asked, p)
		for _, s := range sources(t, ".go") {
			if s.path == use[0] && !strings.Contains(s.text, use[1]) {
				t.Errorf("%s doesn't ask for %s", s.path, p)
			}
		}
	}
	report(t, permissionViolations(compact(granted), compact(asked)))
}

// The control of the test above.
func TestAPermissionOfNoUseIsReported(t *testing.T) {
	got := permissionViolations([]string{"wallet:read", "defi:read"}, []string{"wallet:read", "wallet:burn"})
	if len(got) != 2 || !strings.Contains(got[0], "defi:read") || !strings.Contains(got[1], "wallet:burn") {
		t.Errorf("reported %q", got)
	}
}

func compact(all []string) []string { return slices.Compact(slices.Sorted(slices.Values(all))) }

// makers are the methods that make something that lasts, and unmakers what undoes them.
var makers = regexp.MustCompile(`/(Create|Register|Link|Enroll|Invite)\w*$`)

// unmakers has the method that undoes each maker.
func unmakers() map[string]string {
	return map[string]string{
		"/purser.auth.v1.AccountService/Register":           "/purser.auth.v1.AccountService/DeleteMe",
		"/purser.auth.v1.AdminService/CreateServiceAccount": "/purser.auth.v1.AdminService/DisableServiceAccount",
		"/purser.auth.v1.AdminService/InviteUser":           "/purser.auth.v1.AdminService/DisableUser",
		"/purser.auth.v1.ApiKeyService/CreateApiKey":        "/purser.auth.v1.ApiKeyService/RevokeApiKey",
		"/purser.auth.v1.IdentityService/LinkProvider":      "/purser.auth.v1.IdentityService/UnlinkIdentity",
		"/purser.auth.v1.IdentityService/LinkWallet":        "/purser.auth.v1.IdentityService/UnlinkIdentity",
		"/purser.auth.v1.SessionService/EnrollTotp":         "/purser.auth.v1.SessionService/DisableTotp",
		"/purser.wallet.v1.WalletService/CreateWallet":      "/purser.wallet.v1.WalletService/DeleteWallet",

		"/purser.portfolio.v1.AlertService/CreateAlertRule": "/purser.portfolio.v1.AlertService/DeleteAlertRule",
		"/purser.portfolio.v1.AlertService/CreateWebhookEndpoint": "/purser.portfolio.v1.AlertService" +
			"/DeleteWebhookEndpoint",
		"/purser.portfolio.v1.PortfolioService/CreatePortfolio": "/purser.portfolio.v1.PortfolioService" +
			"/DeletePortfolio",
	}
}

// undoViolations lists the makers that a role may call and whose unmaker it may not.
func undoViolations(roles []authapp.Role, methods []string, lookup func(string) (access.Rule, bool)) []string {
	var found []string
	for _, m := range methods {
		if !makers.MatchString(m) {
			continue
		}
		undo, known := unmakers()[m]
		rule, exists := lookup(undo)
		if !known || !exists {
			found = append(found, m+" makes something, and no method is listed here that undoes it")
			continue
		}
		makes, _ := lookup(m)
		for _, r := range roles {
			if may(r, makes) && !may(r, rule) {
				found = append(found, fmt.Sprintf("%s may call %s and not %s", r.Name, m, undo))
			}
		}
	}
	return found
}

func may(r authapp.Role, rule access.Rule) bool {
	return rule.Permission == "" || slices.Contains(r.Permissions, rule.Permission)
}

func TestWhoeverMayCreateAThingMayDeleteIt(t *testing.T) {
	report(t, undoViolations(authapp.Roles(), registeredMethods(), access.Lookup))
}

// The control of the test above.
func TestARoleThatCreatesAndMayNotDeleteIsReported(t *testing.T) {
	got := undoViolations([]authapp.Role{{Name: "trader", Permissions: []string{"wallet:write"}}},
		[]string{"/purser.wallet.v1.WalletService/CreateWallet", "/purser.wallet.v1.WalletService/CreateVault"},
		access.Lookup)
	if len(got) != 2 || !strings.Contains(got[0], "trader may call /purser.wallet.v1.WalletService/CreateWallet") ||
		!strings.Contains(got[1], "CreateVault") {
		t.Errorf("reported %q", got)
	}
}
