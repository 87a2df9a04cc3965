package defi

import (
	"github.com/ethereum/go-ethereum/common"
	"github.com/holiman/uint256"
)

// The methods of ERC-4626.
var (
	vaultAsset         = selector("asset()")
	vaultPreviewRedeem = selector("previewRedeem(uint256)")
	vaultConvert       = selector("convertToAssets(uint256)")
)

// erc4626 reads vaults in the shape of ERC-4626. An amount is previewRedeem of all of the holder's shares, after fees:
// convertToAssets is before them, and a share's price times the shares loses digits (OpenZeppelin 4.9.6 to 5.7.0). So
// convertToAssets tells the growth.
type erc4626 struct{}

// manyShares are those whose value is a vault's growth index: enough for 15 digits of an asset with 6 decimals.
var manyShares = uint256.MustFromDecimal("1000000000000000000000000000")

func (erc4626) Read(m Market, holders []common.Address, callAll CallAll) []Reading {
	shape := callAll([]Call{call(m.Contract, vaultAsset), call(m.Contract, totalSupply),
		call(m.Contract, vaultConvert, manyShares)})
	asset, ok := shape[0].address()
	supply := shape[1].word()
	if !ok || supply == nil {
		return unknown(m, len(holders), "the contract answers as no ERC-4626 vault does")
	}
	shares, id, receipt := callAll(ofEach(m.Contract, balanceOf, holders)), m.erc20(asset), m.self()
	return readShares(m, shares, callAll, func(n *uint256.Int) Call { return call(m.Contract, vaultPreviewRedeem, n) },
		func(amount *uint256.Int) Position {
			return Position{Kind: Supplied, Asset: id, Amount: *amount, Receipt: receipt,
				GrowthIndex: shape[2].index()}
		}, supply)
}

// readShares returns the readings of holders whose shares the market's contract converts, by a call for each who has
// some. supply is how many there are; one that says that there are none has no value for any.
func readShares(m Market, shares []Answer, callAll CallAll, convert func(*uint256.Int) Call,
	position func(*uint256.Int) Position, supply *uint256.Int) []Reading {
	out := readings(m, len(shares))
	var calls []Call
	var places []int
	for i, s := range shares {
		n := s.word()
		switch {
		case n == nil:
			out[i].Missing = "its balance of shares"
		case n.IsZero():
			ended := position(n)
			ended.Ended = true
			out[i].Positions = []Position{ended}
		case n.Gt(supply):
			out[i].Missing = "the value of its shares: they are more than the contract says that there are"
		default:
			calls, places = append(calls, convert(n)), append(places, i)
		}
	}
	for j, a := range callAll(calls) {
		i := places[j]
		if amount := a.word(); amount != nil {
			out[i].Positions = []Position{position(amount)}
		} else {
			out[i].Missing = "the value of its shares"
		}
	}
	return out
}
