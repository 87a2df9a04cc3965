package valuation

import (
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/cockroachdb/apd/v3"
)

// Assets is what wallets hold together, before it is valued.
type Assets struct {
	At time.Time
	// Positions have prices, but no values.
	Positions []Position
	// Membership is the number of the portfolio's membership that has the wallets.
	Membership int
	wallets    []Wallet
}

// Add adds up what wallets hold of each token. It fails only for a malformed amount.
func Add(wallets []Wallet, holdings []Holding, at time.Time) (Assets, error) {
	positions, err := sumByToken(holdings)
	return Assets{At: at, Positions: positions, wallets: wallets}, err
}

// AsOf returns the same amounts at another time, with what is known of the wallets and the prices, by token id, then.
func (a Assets) AsOf(wallets []Wallet, prices map[string]Price, at time.Time) Assets {
	positions := slices.Clone(a.Positions)
	for i := range positions {
		positions[i].Price = prices[positions[i].TokenID]
	}
	a.At, a.Positions, a.wallets = at, positions, wallets
	return a
}

// Value values the assets at their prices. It fails only for a malformed price.
func (a Assets) Value() (Valuation, error) {
	v := Valuation{ValuationTime: a.At, Total: new(apd.Decimal), Wallets: len(a.wallets), Membership: a.Membership}
	for _, w := range a.wallets {
		v.checkWallet(w)
	}
	v.Positions = slices.Clone(a.Positions)
	for i := range v.Positions {
		if err := setValue(&v.Positions[i]); err != nil {
			return Valuation{}, err
		}
		v.count(v.Positions[i])
	}
	slices.SortFunc(v.Positions, byValue)
	v.setShares()
	return v, nil
}

// sumByToken adds up the holdings of each token. Holdings of one token can come
// from two reads, of which one found no price: the known price is used.
func sumByToken(holdings []Holding) ([]Position, error) {
	index := map[string]int{}
	var positions []Position
	for _, h := range holdings {
		if h.Amount == nil || h.Amount.Sign() < 0 {
			return nil, fmt.Errorf("holding of %s: amount %v, must be set and not below 0", h.TokenID, h.Amount)
		}
		i, seen := index[h.TokenID]
		if !seen {
			index[h.TokenID] = len(positions)
			positions = append(positions, Position{
				TokenID: h.TokenID, Symbol: h.Symbol, Decimals: h.Decimals, Verified: h.Verified,
				Amount: new(big.Int).Set(h.Amount), Price: h.Price,
			})
			continue
		}
		p := &positions[i]
		p.Amount.Add(p.Amount, h.Amount)
		if !p.Price.Known() && h.Price.Known() {
			p.Price = h.Price
		}
	}
	return positions, nil
}
