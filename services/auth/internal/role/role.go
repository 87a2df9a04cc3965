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

// ManageUsers is the permission to change accounts of others.
const ManageUsers = "admin:users"

// AnyWallet is the permission to read the wallets of all users; wallet's code asks for it by this name.
const AnyWallet = "wallet:any"

// EraseUsers is the permission of a service account to learn which users were deleted and to report that it has erased
// their data. Each enabled service account that has it is expected to.
const EraseUsers = "users:erase"

// ImportPrices is the permission to store prices that everybody's portfolios are valued by.
const ImportPrices = "prices:import"

// permissions returns those of each role. read, write and delete are of the caller's own resources; ":any" extends
// them to everybody's. Whoever may create a thing may delete it, and each permission is one that a method or the code
// asks for; tests hold the table to both. The three roles of customers permit the same: they are for the rules of a
// product's own services, which find them in the access token.
func permissions() map[string][]string {
	own := []string{"wallet:read", "wallet:write", "wallet:delete", "portfolio:read", "portfolio:write"}
	return map[string][]string{
		Admin: append(slices.Clone(own), ManageUsers, "admin:system", AnyWallet, ForwardClient,
			EraseUsers, ImportPrices),
		Trader:             own,
		FundManager:        own,
		IndividualInvestor: own,
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
