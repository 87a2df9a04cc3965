package defi

import (
	"cmp"
	"math/big"
	"slices"

	"github.com/cockroachdb/apd/v3"

	"github.com/purserhq/purser/services/portfolio/internal/allocation"
)

// ProtocolWorth is what the positions in a protocol are worth.
type ProtocolWorth struct {
	Protocol string
	Worth    Worth
	// Share is the sum of those of its markets.
	Share   *apd.Decimal
	Lowest  Lowest
	Markets []MarketWorth // by market
}

// MarketWorth is what the positions of all wallets in a market are worth.
type MarketWorth struct {
	Market string
	Worth  Worth
	// Share of all assets. The shares of all markets sum to exactly 1; nil without assets.
	Share  *apd.Decimal
	Lowest Lowest
	// Wallets is how many have something in it, or may, Incomplete of how many of them something is missing.
	Wallets, Incomplete int
}

// Breakdown divides what a portfolio has by protocol and market.
func (s *State) Breakdown() []ProtocolWorth {
	var out []ProtocolWorth
	var assets []*apd.Decimal
	for i := range s.Markets {
		m := &s.Markets[i]
		if len(out) == 0 || out[len(out)-1].Protocol != m.Protocol {
			out = append(out, ProtocolWorth{Protocol: m.Protocol, Worth: newWorth()})
		}
		p := &out[len(out)-1]
		if n := len(p.Markets); n == 0 || p.Markets[n-1].Market != m.ID {
			p.Markets = append(p.Markets, MarketWorth{Market: m.ID, Worth: newWorth()})
		}
		of := &p.Markets[len(p.Markets)-1]
		of.Wallets++
		if !m.Complete {
			of.Incomplete++
		}
		of.Worth.join(m.Worth)
		p.Worth.join(m.Worth)
		if account, ok := s.account(m); ok {
			of.Lowest.add(&account)
			p.Lowest.add(&account)
		}
	}
	for i := range out {
		out[i].Lowest.finish()
		for j := range out[i].Markets {
			out[i].Markets[j].Lowest.finish()
			assets = append(assets, out[i].Markets[j].Worth.Assets)
		}
	}
	setShares(out, allocation.Shares(assets))
	return out
}

// setShares sets the shares of markets, in their order, and their sums; none without assets.
func setShares(out []ProtocolWorth, shares []*apd.Decimal) {
	if len(shares) == 0 {
		return
	}
	for i := range out {
		sum := new(big.Int)
		for j := range out[i].Markets {
			out[i].Markets[j].Share = shares[0]
			sum.Add(sum, units(shares[0]))
			shares = shares[1:]
		}
		out[i].Share = ofUnits(sum, allocation.ShareScale)
	}
}

// Page returns the elements of a list, which is in the order of their keys, after a key: at most limit.
func Page[T any](list []T, key func(*T) Key, after Key, limit int) []T {
	first, _ := slices.BinarySearchFunc(list, after, func(e T, after Key) int {
		return cmp.Or(key(&e).Compare(after), -1) // after the key itself
	})
	return list[first:min(len(list), first+limit)]
}
