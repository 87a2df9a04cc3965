package wallet

// The kinds of changes in the feed of this service; package feed has the rules of it. The version of a change is the
// block of the balances, and 0 for all others.
const (
	Created         = "WALLET_CREATED"
	Updated         = "WALLET_UPDATED" // its label
	Deleted         = "WALLET_DELETED"
	BalancesChanged = "BALANCES_CHANGED" // or were read for the first time, or imported
	OwnerErased     = "OWNER_ERASED"     // has no wallet
	// PricesChanged is everybody's: it has no owner and no wallet, but the text of a price.HourRange as its detail.
	PricesChanged = "PRICES_CHANGED"
	// BlocksReplaced is everybody's too; its detail is the text of a block.Replaced.
	BlocksReplaced = "BLOCKS_REPLACED"
)
