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

// ForwardClient lets a service account say which address a call that it passes
// on came from.
const ForwardClient = "client:forward"

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
		Admin: append(slices.Clone(all), "admin:users", "admin:system", "wallet:any", "portfolio:any",
			ForwardClient),
		Trader:             professional,
		FundManager:        professional,
		IndividualInvestor: all,
	}
}

// Names of the roles, the most powerful first.
func Names() []string { return []string{Admin, Trader, FundManager, IndividualInvestor} }

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

// Exists reports whether there is such a permission. An admin holds them all.
func Exists(permission string) bool { return slices.Contains(table()[Admin], permission) }
