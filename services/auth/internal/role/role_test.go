package role_test

import (
	"slices"
	"testing"

	"github.com/purserhq/purser/services/auth/internal/role"
)

func TestADefaultUserMayKeepTheirOwnWalletsAndNothingOfTheSystem(t *testing.T) {
	p := role.Permissions([]string{role.IndividualInvestor})
	for _, want := range []string{"wallet:read", "wallet:write", "wallet:delete", "portfolio:write"} {
		if !slices.Contains(p, want) {
			t.Errorf("individual_investor lacks %s", want)
		}
	}
	for _, never := range []string{"admin:users", "admin:system", "wallet:any", "client:forward", "prices:import"} {
		if slices.Contains(p, never) {
			t.Errorf("individual_investor has %s", never)
		}
	}
}

func TestACustomerMayUndoWhatTheyMayDo(t *testing.T) {
	for _, r := range []string{role.Trader, role.FundManager, role.IndividualInvestor} {
		p := role.Permissions([]string{r})
		if slices.Contains(p, "wallet:write") != slices.Contains(p, "wallet:delete") {
			t.Errorf("%s may create wallets and not delete them, or the reverse: %v", r, p)
		}
	}
}

func TestAnUnknownRolePermitsNothing(t *testing.T) {
	if p := role.Permissions([]string{"root"}); len(p) != 0 {
		t.Errorf("unknown role permits %v", p)
	}
}
