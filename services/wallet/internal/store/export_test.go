package store

// The statements of History.Past that read partitioned tables.
const (
	ReadRanges         = readRanges
	ReadChangedAmounts = readChangedAmounts
	ReadPastQuotes     = readPastQuotes
)

// BalancesAt is the statement of Wallets.BalancesAt.
const BalancesAt = balancesAt
