// Package role maps roles to permissions: the one table of who may do what.
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
	IndividualInvestor = "individual_investor" // what a new account gets
)

// table is the permissions of each role. write and delete reach one's own
// things only; ":any" reaches beyond.
func table() map[string][]string {
	all := []string{
		"wallet:read", "wallet:write", "wallet:delete",
		"portfolio:read", "portfolio:write",
		"defi:read", "defi:write",
	}
	professional := slices.DeleteFunc(slices.Clone(all), func(p string) bool { return p == "wallet:delete" })
	return map[string][]string{
		Admin:              append(slices.Clone(all), "admin:users", "admin:system", "wallet:any", "portfolio:any"),
		Trader:             professional,
		FundManager:        professional,
		IndividualInvestor: all,
	}
}

// Permissions returns what the roles together permit, sorted. A role that is
// not known permits nothing.
func Permissions(roles []string) []string {
	set := map[string]struct{}{}
	t := table()
	for _, r := range roles {
		for _, p := range t[r] {
			set[p] = struct{}{}
		}
	}
	return slices.Sorted(maps.Keys(set))
}
