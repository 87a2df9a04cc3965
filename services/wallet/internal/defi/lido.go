package defi

import (
	"github.com/ethereum/go-ethereum/common"
	"github.com/holiman/uint256"

	"github.com/purserhq/purser/services/wallet/internal/caip"
)

// The methods of Lido's stETH and wstETH.
var (
	lidoTotalShares = selector("getTotalShares()")
	lidoPooledByOne = selector("getPooledEthByShares(uint256)")
	wrappedStETH    = selector("stETH()")
	wrappedValue    = selector("getStETHByWstETH(uint256)")
)

var oneEther = uint256.NewInt(1e18)

// stETH reads staked coins in the shape of Lido's stETH, whose balances are what is staked and grow by themselves.
type stETH struct{}

func (stETH) Read(m Market, holders []common.Address, callAll CallAll) []Reading {
	shape := callAll([]Call{call(m.Contract, lidoTotalShares), call(m.Contract, lidoPooledByOne, oneEther)})
	if shape[0].word() == nil || shape[1].word() == nil {
		return unknown(m, len(holders), "the contract answers as no stETH does")
	}
	out, p := readings(m, len(holders)), stakedCoin(m, new(uint256.Int), shape[1].index())
	for i, a := range callAll(ofEach(m.Contract, balanceOf, holders)) {
		out[i].take(a, p, "its balance")
	}
	return out
}

// wstETH reads staked coins in the shape of Lido's wstETH, each worth ever more of them. Its bridged form on other
// chains is a plain token and none of these.
type wstETH struct{}

func (wstETH) Read(m Market, holders []common.Address, callAll CallAll) []Reading {
	shape := callAll([]Call{call(m.Contract, wrappedStETH), call(m.Contract, totalSupply),
		call(m.Contract, wrappedValue, oneEther)})
	_, ok := shape[0].address()
	supply := shape[1].word()
	if !ok || supply == nil {
		return unknown(m, len(holders), "the contract answers as no wstETH does")
	}
	shares := callAll(ofEach(m.Contract, balanceOf, holders))
	return readShares(m, shares, callAll, func(n *uint256.Int) Call { return call(m.Contract, wrappedValue, n) },
		func(amount *uint256.Int) Position { return stakedCoin(m, amount, shape[2].index()) }, supply)
}

// stakedCoin is a position in the chain's own coin.
func stakedCoin(m Market, amount *uint256.Int, index uint256.Int) Position {
	return Position{Kind: Staked, Asset: caip.NativeAsset(m.Chain).String(), Amount: *amount, Receipt: m.self(),
		GrowthIndex: index}
}
