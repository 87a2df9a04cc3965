package valuation

import (
	"math/big"
	"time"
)

// ReasonUnknownToken is why a position in a protocol is unpriced whose token is on no token list: neither its decimals
// nor a price are known.
const ReasonUnknownToken = "UNKNOWN_TOKEN"

// PositionKind says what a position in a protocol is.
type PositionKind string

// The kinds of positions. Borrowed is owed; the others are owned. Of "", which is one of a later release of the wallet
// service, that is not known.
const (
	Supplied  PositionKind = "SUPPLIED"
	Borrowed  PositionKind = "BORROWED"
	Staked    PositionKind = "STAKED"
	Liquidity PositionKind = "LIQUIDITY"
	Claimable PositionKind = "CLAIMABLE"
	Locked    PositionKind = "LOCKED"
)

// Market is what a wallet has in a market of a protocol, beside the tokens that it holds.
type Market struct {
	// WalletID and Account, CAIP-10, are the wallet's.
	WalletID, Account string
	// Protocol, such as aave-v3, and ID, the CAIP-10 id of the market's contract.
	Protocol, ID string
	// Complete: all of it was read at the last sync. Otherwise Missing says what was not: of that the positions are as
	// they were last read, and some may be unknown.
	Complete bool
	Missing  string
	// Positions by kind, rate mode and token id.
	Positions []ProtocolPosition
	// Lending is nil in markets without lending accounts, and while it is unknown.
	Lending *LendingAccount
}

// ProtocolPosition is an amount of a token in a market. Kind, RateMode and TokenID name it there.
type ProtocolPosition struct {
	// Holding is the token with its price, and the amount that closing all of it pays or takes. Without Known it has
	// no symbol, no decimals and no price.
	Holding
	// Known: the wallet service knows the token.
	Known bool
	Kind  PositionKind
	// RateMode is VARIABLE or STABLE; "" of what is no debt, or of a protocol with a single mode.
	RateMode string
	// Receipt is the CAIP-19 id of the token in the wallet that stands for it; "" without one. Of the two only one
	// counts.
	Receipt string
	// YearlyRate is what the protocol pays or takes in a year, not compounded, as it was told: "0.05" is 5 %. It is ""
	// where the protocol has none.
	YearlyRate string
	// Collateral: it secures the wallet's debts in the market.
	Collateral bool
	// Block that it was read at, and its time.
	Block     uint64
	BlockTime time.Time
}

// LendingAccount is what a lending market says of all that a wallet has in it, for its risk.
type LendingAccount struct {
	// Collateral and Debt are in a currency of the market's, of which Unit are one.
	Collateral, Debt, Unit *big.Int
	// Threshold is up to which share of the collateral the debt may be, as it was told: "0.83" is 83 %.
	Threshold string
	// Health is the collateral times the threshold over the debt, as it was told. It is "" with HealthUnavailable:
	// NO_DEBT, or DEBT_TOO_SMALL for the market to see it.
	Health, HealthUnavailable string
	// EMode is the number of the account's efficiency mode; 0 for none.
	EMode uint32
	// Block that it was read at, and its time.
	Block     uint64
	BlockTime time.Time
}
