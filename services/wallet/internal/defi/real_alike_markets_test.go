package defi_test

import (
	"math/big"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/holiman/uint256"

	"github.com/purserhq/purser/services/internal/servicetest"
)

// The contracts of our development chain take and refuse the same steps as the published ones, and the adapters read
// the same of both after each, to the last digit: the same numbers are rounded in the same way, supplies grow linearly
// between touches and debts by the same series. So no difference is allowed.
func TestRealMarketsAndOursAreReadAlike(t *testing.T) {
	a := newAlike(t)
	published := a.listed(t, lane{main: a.pool})
	ours := a.ourPool(t, 4)
	const day = 24 * time.Hour
	t.Run("a pool", func(t *testing.T) {
		a.run(t, lanes{published, ours, a.ourPool(t, 5)}, []alikeStep{
			{by: "ben", do: "supply", amount: "100000.000001", asset: "USDC"},
			{by: "ben", do: "supply", amount: "50000", asset: "DAI"},
			{by: "ann", do: "borrow", amount: "1", asset: "USDC", refused: true},
			{by: "ann", do: "supply", amount: "100", asset: "WETH"},
			{by: "ann", do: "supply", amount: "777.000000000000000001", asset: "DAI"},
			{by: "ann", do: "borrow", amount: "5000.123456", asset: "USDC"},
			{wait: time.Hour, by: "ann", do: "look"},
			{wait: day, by: "ann", do: "not secure with", asset: "DAI"},
			{wait: 3 * day, by: "ann", do: "borrow", amount: "85000", asset: "USDC"}, // beyond the optimum
			{wait: 30 * day, by: "ann", do: "borrow", amount: "3333.333333333333333333", asset: "DAI"},
			{wait: day, by: "ann", do: "take", amount: "99", asset: "WETH", refused: true},
			{wait: day, by: "ann", do: "not secure with", asset: "WETH", refused: true},
			{wait: day, by: "ann", do: "repay", amount: "40000", asset: "USDC"},
			{wait: 365 * day, by: "ann", do: "look"},
			{wait: 7 * time.Second, by: "ann", do: "repay", amount: "0.000001", asset: "USDC"},
			{wait: day, by: "ben", do: "take", amount: "12345.678901", asset: "USDC"},
			{wait: day, by: "ann", do: "repay", amount: "all", asset: "USDC"},
			{wait: day, by: "ann", do: "secure with", asset: "DAI"},
			{wait: day, by: "ann", do: "repay", amount: "all", asset: "DAI"},
			{wait: day, by: "ann", do: "take", amount: "all", asset: "DAI"},
			{wait: day, by: "ann", do: "take", amount: "all", asset: "WETH"},
			{wait: day, by: "ben", do: "take", amount: "all", asset: "USDC"},
			{wait: day, by: "ben", do: "take", amount: "all", asset: "DAI"},
		})
	})
	t.Run("a vault", func(t *testing.T) {
		a.run(t, lanes{a.publishedVault(t, 10), a.ourVault(t, ours), a.publishedVault(t, 11)}, []alikeStep{
			{by: "ann", do: "deposit", amount: "900.000000123456789012", asset: "WETH"},
			{by: "ben", do: "deposit", amount: "0.000000000000000007", asset: "WETH"},
			{by: "ben", do: "earn", amount: "1.000000007", asset: "WETH"},
			{wait: day, by: "ann", do: "look"},
			{by: "ann", do: "withdraw", amount: "100", asset: "WETH"},
			{by: "ann", do: "withdraw", amount: "801", asset: "WETH", refused: true},
			{by: "ben", do: "deposit", amount: "33.333333333333333333", asset: "WETH"},
			{by: "ben", do: "earn", amount: "77.7", asset: "WETH"},
			{by: "ann", do: "redeem", amount: "half"},
			{by: "ben", do: "redeem", amount: "all"},
			{by: "ann", do: "redeem", amount: "all"},
			{by: "ben", do: "deposit", amount: "5", asset: "WETH"}, // a vault that has kept the fees of those who left
		})
	})
	t.Run("a pair", func(t *testing.T) {
		a.run(t, lanes{a.publishedPair(t, a.admin), a.ourPair(t), a.publishedPair(t, common.Address{})}, []alikeStep{
			{by: "ann", do: "add", amount: "1000.000000000000000003", asset: "WETH"},
			{by: "ben", do: "swap", amount: "100", asset: "WETH"},
			{by: "ben", do: "swap", amount: "7.777777777777777777", asset: "WETH"},
			{by: "ben", do: "swap", amount: "50", asset: "DAI", refused: true},
			{wait: day, by: "ben", do: "give", amount: "3", asset: "DAI"},
			{by: "ben", do: "add", amount: "33.333333333333333333", asset: "WETH"},
			{by: "ann", do: "remove", amount: "half"},
			{by: "ben", do: "swap", amount: "1", asset: "WETH"},
			{by: "ben", do: "remove", amount: "all"},
			{by: "ann", do: "remove", amount: "all"},
		})
	})
}

// publishedVault is OpenZeppelin's, with a fee.
func (a *alike) publishedVault(t *testing.T, fee int64) lane {
	t.Helper()
	vault := a.deploy(t, vaultCode(t), a.weth.Address, big.NewInt(fee))
	l := a.shareLane(t, "erc4626", vault)
	l.yield = func(amount *big.Int) []act { return []act{{a.weth, "transfer", []any{vault.Address, amount}}} }
	return l
}

// ourVault is ours, which has its assets in a pool. Nobody borrows these, so that they are as many there.
func (a *alike) ourVault(t *testing.T, pool lane) lane {
	t.Helper()
	var supplied common.Address
	for id, name := range pool.names {
		if name == "supplied WETH" {
			supplied = common.HexToAddress(id[len("eip155:1/erc20:"):])
		}
	}
	vault := a.ours(t, "YieldVault", "Vault", "V", a.weth.Address, pool.main.Address, supplied)
	l := a.shareLane(t, "erc4626", vault)
	l.yield = func(amount *big.Int) []act {
		return []act{{pool.main, "supply", []any{a.weth.Address, amount, vault.Address, uint16(0)}}}
	}
	return l
}

const pairArtifact = "@uniswap/v2-core/build/UniswapV2Pair.json"

// publishedPair is Uniswap's, of a factory whose fee somebody gets.
func (a *alike) publishedPair(t *testing.T, feeTo common.Address) lane {
	t.Helper()
	factory := a.create(t, "@uniswap/v2-core/build/UniswapV2Factory.json", a.admin)
	factory.send(t, a.admin, "setFeeTo", feeTo)
	return a.pairOf(t, factory)
}

func (a *alike) ourPair(t *testing.T) lane {
	t.Helper()
	return a.pairOf(t, a.ours(t, "LiquidityFactory", a.admin))
}

func (a *alike) pairOf(t *testing.T, factory contract) lane {
	t.Helper()
	factory.send(t, a.admin, "createPair", a.weth.Address, a.dai.Address)
	pair := factory.ask(t, a.newest(t), a.admin, "getPair", a.weth.Address, a.dai.Address)[0].(common.Address)
	return a.shareLane(t, "uniswap-v2", a.at(t, pairArtifact, pair))
}

// shareLane is of a contract that is its own receipt token.
func (a *alike) shareLane(t *testing.T, protocol string, of contract) lane {
	t.Helper()
	a.approve(t, a.weth, of.Address)
	return lane{main: of, market: protocol + "@eip155:1:" + of.Hex(),
		names: map[string]string{"eip155:1/erc20:" + lower(of.Hex()): "shares"}}
}

// ourReserve are the settings of a reserve in newAavePool, as our pool takes them.
func (a *alike) ourReserve(name string) *big.Int {
	bits := &uint256.Int{7500 | 8000<<16 | 10500<<32 | 18<<48 | 1<<56 | 1<<58, 0, 0, 0}
	switch name {
	case "WETH":
		bits[0] &^= 1 << 58 // it can't be borrowed
	case "USDC":
		bits[0] ^= (18 ^ 6) << 48
		bits[1] = 1000
	}
	return bits.ToBig()
}

// ourPool is a pool of our contracts with the settings of newAavePool, a first reserve dropped, and with other rates
// than there where slope isn't 4 %.
func (a *alike) ourPool(t *testing.T, slope int64) lane {
	t.Helper()
	percents := func(n int64) *big.Int {
		return new(big.Int).Mul(big.NewInt(n), new(big.Int).Exp(big.NewInt(10), big.NewInt(25), nil))
	}
	l := lane{names: map[string]string{}}
	var assets, feeds []common.Address
	for name, price := range map[string]int64{"WETH": 2000e8, "USDC": 1e8, "DAI": 1e8} {
		feed := a.ours(t, "PriceFeed")
		// What its prices are about, in the third word of its storage; they don't vary with the fourth at zero.
		a.Call(t, new(any), "anvil_setStorageAt", feed.Address, common.BigToHash(big.NewInt(2)),
			common.BigToHash(big.NewInt(price)))
		assets, feeds = append(assets, a.token(name).Address), append(feeds, feed.Address)
	}
	oracle := a.ours(t, "LendingOracle", assets, feeds)
	var nonce hexutil.Uint64
	a.Call(t, &nonce, "eth_getTransactionCount", servicetest.NodeHolder, "latest")
	deployer := common.HexToAddress(servicetest.NodeHolder)
	l.main = a.ours(t, "LendingPool", crypto.CreateAddress(deployer, uint64(nonce)+1))
	a.ours(t, "LendingAddresses", "test", l.main.Address, oracle.Address)
	rates := a.ours(t, "LendingRates", percents(80), percents(0), percents(slope), percents(75))
	old := a.create(t, aave("mocks/tokens", "MintableERC20"), "OLD", "OLD", uint8(18))
	for _, reserve := range []struct {
		name  string
		asset contract
	}{{"OLD", old}, {"WETH", a.weth}, {"USDC", a.usdc}, {"DAI", a.dai}} {
		asset := reserve.asset.Address
		tokens := [4]common.Address{a.ours(t, "SupplyToken", "a", "a", l.main.Address, asset,
			common.Address{7}).Address, a.ours(t, "StableDebtToken", "s", "s", asset).Address,
			a.ours(t, "VariableDebtToken", "v", "v", l.main.Address, asset).Address, rates.Address}
		l.main.send(t, deployer, "addReserve", asset, tokens, a.ourReserve(reserve.name))
	}
	l.main.send(t, deployer, "dropReserve", old.Address)
	return a.listed(t, l)
}

// listed adds the setting and the names of a pool's tokens, and lets it take those of the users.
func (a *alike) listed(t *testing.T, l lane) lane {
	t.Helper()
	l.market, l.names = "aave-v3@eip155:1:"+l.main.Hex(), map[string]string{}
	for _, name := range []string{"WETH", "USDC", "DAI"} {
		a.approve(t, a.token(name), l.main.Address)
		raw := l.main.raw(t, "getReserveData", a.token(name).Address)
		for i, kind := range []string{"supplied ", "stable ", "variable "} {
			token := common.BytesToAddress(raw[(8+i)*32 : (9+i)*32])
			l.names["eip155:1/erc20:"+lower(token.Hex())] = kind + name
		}
	}
	return l
}
