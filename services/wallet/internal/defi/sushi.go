package defi

import (
	"github.com/ethereum/go-ethereum/common"
	"github.com/holiman/uint256"
)

// barToken is the method of a SushiBar that names its token.
var barToken = selector("sushi()")

// sushiBar reads stakes in the shape of SushiBar (@sushiswap/core 2.0.0-canary.1): what leave pays for all of a
// holder's shares in the block. The bar has no method that says it, so it is computed as leave does, from what the bar
// has of its token: tokens that were sent to it count, and there is no fee.
type sushiBar struct{}

func (sushiBar) Read(m Market, holders []common.Address, callAll CallAll) []Reading {
	const other = "the contract answers as no SushiBar does"
	shape := callAll([]Call{call(m.Contract, barToken), call(m.Contract, totalSupply)})
	token, ok := shape[0].address()
	supply := shape[1].word()
	if !ok || supply == nil {
		return unknown(m, len(holders), other)
	}
	answers := callAll(append(ofEach(m.Contract, balanceOf, holders), callFor(token, balanceOf, m.Contract)))
	has := answers[len(holders)].word()
	if has == nil {
		return unknown(m, len(holders), other)
	}
	p := Position{Kind: Staked, Asset: m.erc20(token), Receipt: m.self()}
	if index, ok := mulDiv(manyShares, has, supply); ok {
		p.GrowthIndex = *index
	}
	out := readings(m, len(holders))
	for i := range out {
		shares := answers[i].word()
		if shares == nil {
			out[i].Missing = "its balance of shares"
			continue
		}
		amount, ok := new(uint256.Int), true
		if !shares.IsZero() {
			amount, ok = mulDiv(shares, has, supply)
		}
		if !ok || shares.Gt(supply) {
			out[i].Missing = "the value of its shares: leave would fail"
			continue
		}
		p.Amount, p.Ended = *amount, shares.IsZero()
		out[i].Positions = []Position{p}
	}
	return out
}
