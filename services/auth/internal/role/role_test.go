package role_test

import (
	"slices"
	"testing"

	"github.com/purserhq/purser/services/auth/internal/role"
)

func TestADefaultUserMayKeepTheirOwnWalletsAndNothingOfTheSystem(t *testing.T) {
	p := role.Permissions([]string{role.IndividualInvestor})
	for _, want := range []string{"wallet:read", "wallet:write", "wallet:delete", "portfolio:write", "defi:read"} {
		if !slices.Contains(p, want) {
			t.Errorf("individual_investor lacks %s", want)
		}
	}
	for _, never := range []string{"admin:users", "admin:system", "wallet:any", "portfolio:any"} {
		if slices.Contains(p, never) {
			t.Errorf("individual_investor has %s", never)
		}
	}
}

func TestATraderMayNotDeleteWallets(t *testing.T) {
	if slices.Contains(role.Permissions([]string{role.Trader}), "wallet:delete") {
		t.Error("trader has wallet:delete")
	}
}

func TestAnUnknownRolePermitsNothing(t *testing.T) {
	if p := role.Permissions([]string{"root"}); len(p) != 0 {
		t.Errorf("unknown role permits %v", p)
	}
}
