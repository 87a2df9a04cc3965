package chain

import (
	"fmt"
	"math/big"
	"sync"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/holiman/uint256"
)

// deployed is a contract that defiAccount makes.
type deployed struct {
	// name is that of its address in defiAddresses.
	name     string
	artifact string
	args     func(at map[string]common.Address) []any
}

// defiContracts are in the order of their deployment, so that their place is the nonce.
func defiContracts() []deployed {
	token := seededAddresses()
	list := []deployed{
		{"oracle", "LendingOracle", func(map[string]common.Address) []any {
			assets, feeds := pricedReserves()
			return []any{assets, feeds}
		}},
		{"pool", "LendingPool", func(at map[string]common.Address) []any { return []any{at["addresses"]} }},
		{"addresses", "LendingAddresses", func(at map[string]common.Address) []any {
			return []any{"Local Market", at["pool"], at["oracle"]}
		}},
		{"volatile rates", "LendingRates", func(map[string]common.Address) []any {
			return []any{ray(80), ray(0), ray(4), ray(80)}
		}},
		{"stable rates", "LendingRates", func(map[string]common.Address) []any {
			return []any{ray(90), ray(0), ray(6), ray(60)}
		}},
	}
	for _, r := range reserves() {
		list = append(list, lendingTokens(r.symbol, token[r.symbol])...)
	}
	return append(list,
		deployed{"vault", "YieldVault", func(at map[string]common.Address) []any {
			return []any{"USDC Vault (local)", "vUSDC", token["USDC"], at["pool"], at["supplied USDC"]}
		}},
		deployed{"staked", "StakedEther", func(map[string]common.Address) []any { return nil }},
		deployed{"wrapped", "WrappedStakedEther", func(at map[string]common.Address) []any {
			return []any{at["staked"]}
		}},
		deployed{"factory", "LiquidityFactory", func(map[string]common.Address) []any {
			return []any{defiTreasury()}
		}},
		// 500 DAI a day, for ten years.
		deployed{"rewards", "StakingRewards", func(map[string]common.Address) []any {
			rate := new(big.Int).Div(units(500, 18).ToBig(), big.NewInt(86_400))
			return []any{token["LINK"], token["DAI"], rate, big.NewInt(3_650 * 86_400)}
		}},
		deployed{"keeper", "DefiKeeper", func(at map[string]common.Address) []any {
			return []any{keeperPlaces(at, token)}
		}})
}

// lendingTokens are what the pool makes of an asset.
func lendingTokens(symbol string, asset common.Address) []deployed {
	return []deployed{
		{"supplied " + symbol, "SupplyToken", func(at map[string]common.Address) []any {
			return []any{"Local Supplied " + symbol, "aLocal" + symbol, at["pool"], asset, defiTreasury()}
		}},
		{"stable " + symbol, "StableDebtToken", func(map[string]common.Address) []any {
			return []any{"Local Stable Debt " + symbol, "stableDebtLocal" + symbol, asset}
		}},
		{"borrowed " + symbol, "VariableDebtToken", func(at map[string]common.Address) []any {
			return []any{debtName(symbol), "variableDebtLocal" + symbol, at["pool"], asset}
		}},
	}
}

func debtName(symbol string) string { return "Local Variable Debt " + symbol }

// keeperPlaces is the argument of the keeper's constructor.
func keeperPlaces(at, token map[string]common.Address) any {
	return struct {
		Pool, Oracle, Vault, Staked, Wrapped, Pair, Rewards, Debt common.Address
		Weth, Usdc, Wbtc, Link, Dai                               common.Address
	}{
		at["pool"], at["oracle"], at["vault"], at["staked"], at["wrapped"], at["pair"], at["rewards"],
		at["borrowed USDC"], token["WETH"], token["USDC"], token["WBTC"], token["LINK"], token["DAI"],
	}
}

// defiAddresses are the addresses of defiContracts by name, and of the factory's pair.
var defiAddresses = sync.OnceValue(func() map[string]common.Address {
	at := map[string]common.Address{}
	for nonce, d := range defiContracts() {
		at[d.name] = crypto.CreateAddress(defiAccount().Address, uint64(nonce))
	}
	at["pair"] = crypto.CreateAddress(at["factory"], 1)
	return at
})

// creation is the data of the transaction that makes the contract.
func (d deployed) creation() ([]byte, error) {
	artifact, err := LoadArtifact(d.artifact)
	if err != nil {
		return nil, err
	}
	args, err := artifact.ABI.Pack("", d.args(defiAddresses())...)
	if err != nil {
		return nil, fmt.Errorf("chain: deploy %s: %w", d.name, err)
	}
	return append(common.CopyBytes(artifact.Creation), args...), nil
}

// pricedReserves are the pool's assets, and the feed of each.
func pricedReserves() (assets, feeds []common.Address) {
	feed := map[string]common.Address{}
	for _, f := range PriceFeeds() {
		feed[f.Symbol] = f.Address
	}
	token := seededAddresses()
	for _, r := range reserves() {
		assets = append(assets, token[r.symbol])
		feeds = append(feeds, feed[r.symbol])
	}
	return assets, feeds
}

// seededAddresses are the addresses of the seeded tokens by symbol.
func seededAddresses() map[string]common.Address {
	at := map[string]common.Address{}
	for _, t := range SeededTokens() {
		at[t.Symbol] = t.Address
	}
	return at
}

// ray is so many percent, with 27 decimals.
func ray(percent uint64) *big.Int {
	return new(uint256.Int).Mul(uint256.NewInt(percent), units(1, 25)).ToBig()
}
