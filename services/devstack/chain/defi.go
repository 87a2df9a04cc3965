package chain

import (
	"slices"
	"sync"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
)

// Protocol is whose interface a contract has, as PURSER_DEFI_MARKETS names it.
type Protocol string

// The protocols of the markets.
const (
	AaveV3         Protocol = "aave-v3"
	ERC4626        Protocol = "erc4626"
	StETH          Protocol = "steth"
	WstETH         Protocol = "wsteth"
	UniswapV2      Protocol = "uniswap-v2"
	StakingRewards Protocol = "staking-rewards"
)

// Market is a contract of a DeFi protocol.
type Market struct {
	Protocol Protocol
	// Name says what it is: "lending pool", "USDC vault", "stETH", "wstETH", "WETH/USDC pair", "LINK staking".
	Name string
	// Address is that of the pool, the vault, the token, the pair or the staking contract. A lending pool tells the
	// others of its contracts.
	Address common.Address
}

// Markets are the DeFi contracts of a chain with Options.Defi, from its third step on or from 35 days before its first
// start, what is later. Their addresses are the same on every such chain. Other chains have none.
//
// They are our own contracts with the calls, results and events of the real ones. Interest accrues in every block.
// The lending pool takes its prices from PriceFeeds, at each block; the pair is moved towards them once a day.
//
// Alice has positions there since that block: 10 WETH (as collateral) and 5,000 DAI (not as collateral) supplied,
// 8,000 USDC borrowed, a deposit of 20,000 USDC in the vault, 4 stETH, 3 stETH wrapped, a share of the pair for 4
// WETH and as much USDC, and 500 LINK staked for DAI. Somebody else has paid for all of it, and has what she
// borrowed, so that her ether and seeded tokens are still those of the Plan. The faucet has paid too: Expected isn't
// right for it.
func (c *Chain) Markets() []Market {
	if !c.meta.Defi {
		return nil
	}
	return slices.Clone(defiMarkets())
}

// Market is the market of the given name; false on a chain without it.
func (c *Chain) Market(name string) (Market, bool) {
	markets := c.Markets()
	i := slices.IndexFunc(markets, func(m Market) bool { return m.Name == name })
	if i < 0 {
		return Market{}, false
	}
	return markets[i], true
}

var defiMarkets = sync.OnceValue(func() []Market {
	at := defiAddresses()
	return []Market{
		{AaveV3, LendingPoolName, at["pool"]},
		{ERC4626, "USDC vault", at["vault"]},
		{StETH, "stETH", at["staked"]},
		{WstETH, "wstETH", at["wrapped"]},
		{UniswapV2, "WETH/USDC pair", at["pair"]},
		{StakingRewards, "LINK staking", at["rewards"]},
	}
})

// LendingPoolName is the name of the market that Supply, Withdraw, Borrow and Repay use.
const LendingPoolName = "lending pool"

// defiAccount deploys the contracts and owns their keeper. It sends nothing else.
func defiAccount() Account { return devAccount("defi") }

// defiTreasury receives the protocols' fees. Its key is unknown.
func defiTreasury() common.Address {
	return common.BytesToAddress(crypto.Keccak256([]byte("purser devstack defi treasury"))[12:])
}

// reserve is an asset of the lending pool; ratios are in hundredths of a percent.
type reserve struct {
	symbol           string
	ltv, threshold   uint64
	bonus, treasury  uint64
	stable, unlisted bool
}

// reserves are in the order of their ids. LINK is dropped again, so that an id isn't the place in the list, and DAI
// can't be collateral.
func reserves() []reserve {
	return []reserve{
		{symbol: "WETH", ltv: 8_000, threshold: 8_250, bonus: 10_500, treasury: 1_500},
		{symbol: "LINK", ltv: 6_600, threshold: 7_100, bonus: 10_700, treasury: 2_000, unlisted: true},
		{symbol: "USDC", ltv: 7_700, threshold: 8_000, bonus: 10_450, treasury: 1_000, stable: true},
		{symbol: "WBTC", ltv: 7_300, threshold: 7_800, bonus: 10_500, treasury: 5_000},
		{symbol: "DAI", treasury: 2_500, stable: true},
	}
}

// configuration is the reserve's bits, as the pool has them.
func (r reserve) configuration(decimals uint8) []uint64 {
	low := r.ltv | r.threshold<<16 | r.bonus<<32 | uint64(decimals)<<48 | 1<<56 | 1<<58
	return []uint64{low, r.treasury}
}

// rates names the contract of the reserve's rates.
func (r reserve) rates() string {
	if r.stable {
		return "stable rates"
	}
	return "volatile rates"
}
