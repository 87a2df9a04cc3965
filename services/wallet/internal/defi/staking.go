package defi

import "github.com/ethereum/go-ethereum/common"

// The methods of Synthetix's StakingRewards, which many protocols have copied.
var (
	stakingToken  = selector("stakingToken()")
	stakingPays   = selector("rewardsToken()")
	stakingEarned = selector("earned(address)")
)

// stakingRewards reads stakes in the shape of Synthetix's StakingRewards: a balance of staked tokens that withdraw
// pays, and rewards to claim. There is no token for them.
type stakingRewards struct{}

func (stakingRewards) Read(m Market, holders []common.Address, callAll CallAll) []Reading {
	shape := callAll([]Call{call(m.Contract, stakingToken), call(m.Contract, stakingPays)})
	staked, isStaking := shape[0].address()
	reward, hasRewards := shape[1].address()
	if !isStaking || !hasRewards {
		return unknown(m, len(holders), "the contract answers as no StakingRewards does")
	}
	calls := append(ofEach(m.Contract, balanceOf, holders), ofEach(m.Contract, stakingEarned, holders)...)
	answers := callAll(calls)
	out, stake, earned := readings(m, len(holders)), m.erc20(staked), m.erc20(reward)
	for i := range holders {
		out[i].take(answers[i], Position{Kind: Staked, Asset: stake}, "its stake")
		out[i].take(answers[len(holders)+i], Position{Kind: Claimable, Asset: earned}, "its rewards")
	}
	return out
}
