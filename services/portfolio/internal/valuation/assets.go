package valuation

import (
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/apd/v3"
)

// Assets is what wallets hold together, before it is valued.
type Assets struct {
	At time.Time
	// Positions have prices, but no values.
	Positions []Position
	// Receipts are as in Valuation, without values.
	Receipts []Position
	// Membership is the number of the portfolio's membership that has the wallets.
	Membership int
	wallets    []Wallet
}

// Add adds up what wallets have of each token in each place. It fails only for a malformed amount.
func Add(wallets []Wallet, holdings []Holding, at time.Time) (Assets, error) {
	positions, err := sumByToken(holdings, false)
	if err != nil {
		return Assets{}, err
	}
	receipts, err := sumByToken(holdings, true)
	return Assets{At: at, Positions: positions, Receipts: receipts, wallets: wallets}, err
}

// AsOf returns the same amounts at another time, with what is known of the wallets and the prices, by token id, then.
func (a Assets) AsOf(wallets []Wallet, prices map[string]Price, at time.Time) Assets {
	positions, receipts := slices.Clone(a.Positions), slices.Clone(a.Receipts)
	for _, all := range [][]Position{positions, receipts} {
		for i := range all {
			all[i].Price = PriceOf(prices, all[i].TokenID, all[i].Price)
		}
	}
	a.At, a.Positions, a.Receipts, a.wallets = at, positions, receipts, wallets
	return a
}

// Value values the assets at their prices. It fails only for a malformed price.
func (a Assets) Value() (Valuation, error) {
	v := Valuation{ValuationTime: a.At, Total: new(apd.Decimal), Assets: new(apd.Decimal),
		Liabilities: new(apd.Decimal), Collateral: new(apd.Decimal), Wallets: len(a.wallets), Membership: a.Membership}
	for _, w := range a.wallets {
		v.checkWallet(w)
	}
	v.Positions = slices.Clone(a.Positions)
	c := decimalContext()
	for i := range v.Positions {
		if err := setValue(c, &v.Positions[i]); err != nil {
			return Valuation{}, err
		}
		v.count(c, &v.Positions[i])
	}
	slices.SortFunc(v.Positions, byValue)
	v.setShares()
	v.Receipts = slices.Clone(a.Receipts)
	for i := range v.Receipts {
		if err := setValue(c, &v.Receipts[i]); err != nil {
			return Valuation{}, err
		}
	}
	slices.SortFunc(v.Receipts, func(a, b Position) int { return strings.Compare(a.TokenID, b.TokenID) })
	return v, nil
}

// sumByToken adds up the holdings of each token and place, either the receipts or the others. Holdings of one token
// can come from two reads, of which one found no price: the known price is used.
func sumByToken(holdings []Holding, receipts bool) ([]Position, error) {
	type line struct {
		token    string
		decimals uint8 // 0 while the token isn't known
		place    Place
	}
	inWallets, elsewhere := map[string]int{}, map[line]int{}
	var positions []Position
	for _, h := range holdings {
		if h.IsReceipt != receipts {
			continue
		}
		if h.Amount == nil || h.Amount.Sign() < 0 {
			return nil, fmt.Errorf("holding of %s: amount %v, must be set and not below 0", h.TokenID, h.Amount)
		}
		var i int
		var seen bool
		if h.Place.InWallet() {
			if i, seen = inWallets[h.TokenID]; !seen {
				inWallets[h.TokenID] = len(positions)
			}
		} else {
			key := line{h.TokenID, h.Decimals, h.Place}
			if i, seen = elsewhere[key]; !seen {
				elsewhere[key] = len(positions)
			}
		}
		if !seen {
			positions = append(positions, Position{
				TokenID: h.TokenID, Symbol: h.Symbol, Decimals: h.Decimals, Verified: h.Verified, Place: h.Place,
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
