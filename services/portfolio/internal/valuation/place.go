package valuation

import "math/big"

// Place is where an amount of a token is. The zero value is the wallets themselves.
type Place struct {
	// Protocol, such as aave-v3, and Market, the CAIP-10 id of the market's contract.
	Protocol, Market string
	Kind             PositionKind
	// RateMode is VARIABLE or STABLE; "" of what is no debt, or of a protocol with a single mode.
	RateMode string
	// Collateral: it secures the debts of its wallet in the market.
	Collateral bool
}

// InWallet reports whether it is the wallets themselves.
func (p Place) InWallet() bool { return p == Place{} }

// Owed reports whether what is there is owed, and not owned.
func (p Place) Owed() bool { return p.Kind == Borrowed }

// InMarkets returns what wallets have in markets as holdings. A position of a kind that isn't known is left out, since
// it may be owned or owed: Unknown tells of it.
func InMarkets(markets []Market) []Holding {
	var held []Holding
	for _, m := range markets {
		for _, p := range m.Positions {
			if p.Kind == "" {
				continue
			}
			h := p.Holding
			h.Place = Place{Protocol: m.Protocol, Market: m.ID, Kind: p.Kind, RateMode: p.RateMode,
				Collateral: p.Collateral}
			// What is on no list is not outside of the portfolio for that: it is unpriced.
			h.Verified = h.Verified || !p.Known
			held = append(held, h)
		}
	}
	return held
}

// Unknown says in words what of a market isn't known; "" if all is.
func (m Market) Unknown() string {
	for _, p := range m.Positions {
		if p.Kind == "" {
			return m.Protocol + " at " + m.ID + " has a position of a kind that is not known"
		}
	}
	if m.Complete {
		return ""
	}
	return m.Protocol + " at " + m.ID + " could not be read: " + m.Missing
}

// Signed returns the amount, below 0 if it is owed.
func (p Position) Signed() *big.Int {
	if p.Place.Owed() {
		return new(big.Int).Neg(p.Amount)
	}
	return p.Amount
}
