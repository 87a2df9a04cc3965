// Package role maps roles to permissions.
package role

import (
	"maps"
	"slices"
)

// The roles.
const (
	Admin              = "admin"
	Trader             = "trader"
	FundManager        = "fund_manager"
	IndividualInvestor = "individual_investor" // of a new account
)

// ForwardClient is the permission of a service account to state the client address of a call that it forwards.
const ForwardClient = "client:forward"

// permissions returns those of each role. read, write and delete are of the caller's own resources; ":any" extends
// them to everybody's.
func permissions() map[string][]string {
	all := []string{
		"wallet:read", "wallet:write", "wallet:delete",
		"portfolio:read", "portfolio:write",
		"defi:read", "defi:write",
	}
	professional := slices.DeleteFunc(slices.Clone(all), func(p string) bool { return p == "wallet:delete" })
	return map[string][]string{
		Admin: append(slices.Clone(all), "admin:users", "admin:system", "wallet:any", "portfolio:any",
			ForwardClient),
		Trader:             professional,
		FundManager:        professional,
		IndividualInvestor: all,
	}
}

// Names returns the names of all roles, the most powerful first.
func Names() []string { return []string{Admin, Trader, FundManager, IndividualInvestor} }

// Permissions returns what the roles permit, sorted and without duplicates. An unknown role permits nothing.
func Permissions(roles []string) []string {
	set := map[string]struct{}{}
	byRole := permissions()
	for _, r := range roles {
		for _, p := range byRole[r] {
			set[p] = struct{}{}
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// Exists reports whether a permission exists. An admin holds all of them.
func Exists(permission string) bool { return slices.Contains(permissions()[Admin], permission) }
