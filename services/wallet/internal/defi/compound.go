package defi

import (
	"github.com/ethereum/go-ethereum/common"
	"github.com/holiman/uint256"
)

// The methods of Compound v3's Comet.
var (
	cometBase       = selector("baseToken()")
	cometAssets     = selector("numAssets()")
	cometAsset      = selector("getAssetInfo(uint8)")
	cometUsage      = selector("getUtilization()")
	cometSupplyRate = selector("getSupplyRate(uint256)")
	cometBorrowRate = selector("getBorrowRate(uint256)")
	cometDebt       = selector("borrowBalanceOf(address)")
	cometCollateral = selector("collateralBalanceOf(address,address)")
)

const (
	maxCometAssets = 64
	// cometAssetWords is the size of getAssetInfo's answer.
	cometAssetWords = 8
)

// secondsPerYear is by what Comet's rates, which are per second, are multiplied.
var secondsPerYear = uint256.NewInt(365 * 24 * 60 * 60)

// compoundV3 reads markets of Compound v3, each a Comet: a base asset that is supplied or borrowed, with its interest
// up to the block, and collateral, which earns none. The Comet itself is the token of the supply. It has no health
// factor: it says only whether an account can be liquidated.
type compoundV3 struct{}

func (compoundV3) Read(m Market, holders []common.Address, callAll CallAll) []Reading {
	shape := callAll([]Call{call(m.Contract, cometBase), call(m.Contract, cometAssets), call(m.Contract, cometUsage)})
	base, isComet := shape[0].address()
	count, usage := shape[1].word(), shape[2].word()
	if !isComet || count == nil || usage == nil || !count.LtUint64(maxCometAssets+1) {
		return unknown(m, len(holders), "the contract answers as no Comet of Compound v3 does")
	}
	calls := []Call{call(m.Contract, cometSupplyRate, usage), call(m.Contract, cometBorrowRate, usage)}
	for i := range count.Uint64() {
		calls = append(calls, call(m.Contract, cometAsset, uint256.NewInt(i)))
	}
	answers := callAll(calls)
	supplied := Position{Kind: Supplied, Asset: m.erc20(base), Receipt: m.self(), YearlyRate: perYear(answers[0])}
	owed := Position{Kind: Borrowed, Asset: m.erc20(base), YearlyRate: perYear(answers[1])}
	out := readings(m, len(holders))
	var assets []common.Address
	for _, a := range answers[2:] {
		var asset common.Address
		ok := false
		if w := a.words(cometAssetWords); w != nil {
			asset, ok = addressOf(&w[1])
		}
		if ok {
			assets = append(assets, asset)
			continue
		}
		for i := range out {
			out[i].miss("one of the market's collaterals")
		}
	}
	calls = append(ofEach(m.Contract, balanceOf, holders), ofEach(m.Contract, cometDebt, holders)...)
	for _, asset := range assets {
		for _, h := range holders {
			calls = append(calls, callFor(m.Contract, cometCollateral, h, new(uint256.Int).SetBytes(asset[:])))
		}
	}
	answers = callAll(calls)
	n := len(holders)
	ids := make([]string, len(assets))
	for j, asset := range assets {
		ids[j] = m.erc20(asset)
	}
	for i := range out {
		out[i].take(answers[i], supplied, "its supply")
		out[i].take(answers[n+i], owed, "its debt")
		for j, id := range ids {
			out[i].take(answers[(2+j)*n+i], Position{Kind: Supplied, Asset: id, Collateral: true},
				"its collateral of ", id)
		}
	}
	return out
}

// perYear is a rate per second as one per year; "" without an answer.
func perYear(a Answer) string {
	rate := a.word()
	if rate == nil || !rate.IsUint64() {
		return ""
	}
	return decimal(new(uint256.Int).Mul(rate, secondsPerYear), wadPlaces)
}
