package defi_test

import (
	"testing"

	"github.com/ethereum/go-ethereum/common"
)

func TestStakedCoinsAreTheChainsOwn(t *testing.T) {
	c := &fakeChain{}
	wrapped := common.Address{0xdd}
	c.set(words(1000), market, "getTotalShares()")
	c.set(words("1100000000000000000"), market, "getPooledEthByShares(uint256)", "1000000000000000000")
	c.set(words(500), market, "balanceOf(address)", alice)
	c.set(words(market), wrapped, "stETH()")
	c.set(words(900), wrapped, "totalSupply()")
	c.set(words(0), wrapped, "balanceOf(address)", alice)
	c.set(words(200), wrapped, "balanceOf(address)", bob)
	c.set(words(220), wrapped, "getStETHByWstETH(uint256)", 200)
	alices, bobs := c.read(t, at("steth", market), at("wsteth", wrapped))
	if got := of(alices[0]); got != "STAKED 500 slip44:6" {
		t.Errorf("stETH is read as %s", got)
	}
	if got := of(bobs[0]); got != "missing: its balance" {
		t.Errorf("one that is not answered as %s", got)
	}
	if of(alices[1]) != "" || of(bobs[1]) != "STAKED 220 slip44:6" {
		t.Errorf("wstETH is read as %s, and %s", of(alices[1]), of(bobs[1]))
	}
}

func TestStakesAndRewardsAreReadEachAlone(t *testing.T) {
	c := &fakeChain{}
	c.set(words(tokenA), market, "stakingToken()")
	c.set(words(tokenB), market, "rewardsToken()")
	c.set(words(7), market, "balanceOf(address)", alice)
	c.set(words(3), market, "earned(address)", alice)
	c.set(words(5), market, "earned(address)", bob)
	alices, bobs := c.read(t, at("staking-rewards", market))
	if got := of(alices[0]); got != "STAKED 7 erc20:0x, CLAIMABLE 3 erc20:0x" {
		t.Errorf("read as %s", got)
	}
	if got := of(bobs[0]); got != "CLAIMABLE 5 erc20:0x, missing: its stake" {
		t.Errorf("read as %s", got)
	}
}

func TestAStakeInABarIsItsSharesOfWhatTheBarHas(t *testing.T) {
	sound := func() *fakeChain {
		c := &fakeChain{}
		c.set(words(tokenA), market, "sushi()")
		c.set(words(300), market, "totalSupply()")
		c.set(words(1000), tokenA, "balanceOf(address)", market)
		c.set(words(7), market, "balanceOf(address)", alice)
		c.set(words(0), market, "balanceOf(address)", bob)
		return c
	}
	const none = "missing: the contract answers as no SushiBar does"
	for _, tc := range []struct {
		name         string
		change       func(*fakeChain)
		alice, bob   string
		bobsHasEnded bool
	}{
		{"sound", func(*fakeChain) {}, "STAKED 23 erc20:0x", "", true},
		{"a bar that is worth nothing", func(c *fakeChain) {
			c.set(words(0), tokenA, "balanceOf(address)", market)
		}, "STAKED 0 erc20:0x", "", true},
		{"a token that is none", func(c *fakeChain) { c.set(words(maxWord), market, "sushi()") }, none, none, false},
		{"a token without an answer", func(c *fakeChain) {
			c.set(nil, tokenA, "balanceOf(address)", market)
		}, none, none, false},
		{"a supply of two words", func(c *fakeChain) { c.set(words(300, 0), market, "totalSupply()") }, none, none,
			false},
		{"a balance of 31 bytes", func(c *fakeChain) {
			c.set(make([]byte, 31), market, "balanceOf(address)", alice)
		}, "missing: its balance of shares", "", true},
		{"more shares than there are", func(c *fakeChain) {
			c.set(words(301), market, "balanceOf(address)", alice)
		}, "missing: the value of its shares: leave would fail", "", true},
		{"no shares at all", func(c *fakeChain) { c.set(words(0), market, "totalSupply()") },
			"missing: the value of its shares: leave would fail", "", true},
		{"a product of more than 256 bits", func(c *fakeChain) {
			c.set(words(maxWord), tokenA, "balanceOf(address)", market)
		}, "missing: the value of its shares: leave would fail", "", true},
	} {
		c := sound()
		tc.change(c)
		alices, bobs := c.read(t, at("sushi-bar", market))
		if got := of(alices[0]); got != tc.alice {
			t.Errorf("%s: read as %s, want %s", tc.name, got, tc.alice)
		}
		ended := len(bobs[0].Positions) == 1 && bobs[0].Positions[0].Ended
		if got := of(bobs[0]); got != tc.bob || ended != tc.bobsHasEnded {
			t.Errorf("%s: Bob, who has none, is read as %s, ended %v", tc.name, got, ended)
		}
	}
}

func TestACometHasABaseThatIsSuppliedOrOwedAndCollateral(t *testing.T) {
	c := &fakeChain{}
	c.set(words(tokenA), market, "baseToken()")
	c.set(words(2), market, "numAssets()")
	c.set(words(900), market, "getUtilization()")
	c.set(words(1_000_000_000), market, "getSupplyRate(uint256)", 900)
	c.set(words(2_000_000_000), market, "getBorrowRate(uint256)", 900)
	c.set(words(0, tokenB, 0, 0, 0, 0, 0, 0), market, "getAssetInfo(uint8)", 0)
	c.set(words(0), market, "balanceOf(address)", alice)
	c.set(words(40), market, "borrowBalanceOf(address)", alice)
	c.set(words(9), market, "collateralBalanceOf(address,address)", alice, tokenB)
	c.set(words(70), market, "balanceOf(address)", bob)
	c.set(words(0), market, "borrowBalanceOf(address)", bob)
	c.set(words(0), market, "collateralBalanceOf(address,address)", bob, tokenB)
	alices, _ := c.read(t, at("compound-v3", market))
	if got := of(alices[0]); got != "BORROWED 40 erc20:0x at 0.063072, SUPPLIED 9 erc20:0x collateral, "+
		"missing: one of the market's collaterals" {
		t.Errorf("read as %s", got)
	}
	c.set(words(1, tokenA, 0, 0, 0, 0, 0, 0), market, "getAssetInfo(uint8)", 1)
	c.set(words(0), market, "collateralBalanceOf(address,address)", bob, tokenA)
	if _, bobs := c.read(t, at("compound-v3", market)); of(bobs[0]) != "SUPPLIED 70 erc20:0x at 0.031536" {
		t.Errorf("read as %s", of(bobs[0]))
	}
}

// newPool sets the answers of an Aave pool with one reserve of id 5, in which Alice has supplied 70 and owes 30, and
// Bob has nothing.
func newPool(c *fakeChain) {
	provider, oracle := common.Address{0x11}, common.Address{0x12}
	aToken, stable, variable := common.Address{0x13}, common.Address{0x14}, common.Address{0x15}
	c.set(words(provider), market, "ADDRESSES_PROVIDER()")
	c.set(words(32, 1, tokenA), market, "getReservesList()")
	c.set(words(oracle), provider, "getPriceOracle()")
	c.set(words(0, 0, "50000000000000000000000000", 0, "75000000000000000000000000", 0, 0, 5, aToken, stable, variable,
		0, 0, 0, 0), market, "getReserveData(address)", tokenA)
	c.set(words(100_000_000), oracle, "BASE_CURRENCY_UNIT()")
	c.set(words(100_000_000), oracle, "getAssetPrice(address)", tokenA)
	c.set(words(3<<10), market, "getUserConfiguration(address)", alice)
	c.set(words(0), market, "getUserConfiguration(address)", bob)
	c.set(words(7000, 3000, 9, 8300, 8000, "1936666666666666666"), market, "getUserAccountData(address)", alice)
	c.set(words(0, 0, 0, 0, 0, maxWord), market, "getUserAccountData(address)", bob)
	for _, who := range []common.Address{alice, bob} {
		c.set(words(0), market, "getUserEMode(address)", who)
	}
	c.set(words(70), aToken, "balanceOf(address)", alice)
	c.set(words(0), aToken, "balanceOf(address)", bob)
	c.set(words(30), variable, "balanceOf(address)", alice)
	c.set(words(0), stable, "balanceOf(address)", alice)
	c.set(words(0), stable, "getUserStableRate(address)", alice)
}

const maxWord = "115792089237316195423570985008687907853269984665640564039457584007913129639935"

func TestAnAavePoolIsReadByItsOwnFigures(t *testing.T) {
	oracle := common.Address{0x12}
	const sound = "SUPPLIED 70 erc20:0x at 0.05 collateral, BORROWEDVARIABLE 30 erc20:0x at 0.075"
	asset := "eip155:1/erc20:0xa000000000000000000000000000000000000000"
	for _, tc := range []struct {
		name   string
		change func(*fakeChain)
		want   string
	}{
		{"sound", func(*fakeChain) {}, sound},
		{"a revert of the account", func(c *fakeChain) {
			c.set(nil, market, "getUserAccountData(address)", alice)
			c.set(nil, oracle, "getAssetPrice(address)", tokenA)
		}, sound + ", missing: the account's figures, the market's price of " + asset},
		{"a short account", func(c *fakeChain) {
			c.set(words(1, 2, 3, 4, 5), market, "getUserAccountData(address)", alice)
		}, sound + ", missing: the account's figures"},
		{"no configuration", func(c *fakeChain) { c.set(nil, market, "getUserConfiguration(address)", alice) },
			"missing: its configuration, without which neither debts nor collateral are known"},
		{"an unread debt", func(c *fakeChain) { c.set(nil, common.Address{0x15}, "balanceOf(address)", alice) },
			"SUPPLIED 70 erc20:0x at 0.05 collateral, missing: variable debt of " + asset},
		{"a reserve that is not listed", func(c *fakeChain) {
			c.set(make([]byte, 15*32), market, "getReserveData(address)", tokenA)
		}, "missing: reserve " + asset},
	} {
		c := &fakeChain{}
		newPool(c)
		tc.change(c)
		alices, bobs := c.read(t, at("aave-v3", market))
		if got := of(alices[0]); got != tc.want {
			t.Errorf("%s: read as %s, want %s", tc.name, got, tc.want)
		}
		if a := alices[0].Account; tc.name == "sound" && (a == nil || a.Health != "1.936666666666666666" ||
			a.Threshold != "0.83" || !a.HasDebt) {
			t.Errorf("the account is %+v", a)
		}
		if bobs[0].HasAny() || bobs[0].Account != nil {
			t.Errorf("%s: Bob's is read as %s", tc.name, of(bobs[0]))
		}
	}
}

func TestAListOfReservesThatIsNoneLeavesThePoolUnknown(t *testing.T) {
	for name, answer := range map[string][]byte{
		"another offset": words(64, 1, tokenA), "a longer count": words(32, 2, tokenA), "no list": words(32),
		"no address": words(32, 1, maxWord), "too many": append(words(32, 129), make([]byte, 129*32)...),
		"an odd size": append(words(32, 1, tokenA), 0),
	} {
		c := &fakeChain{}
		newPool(c)
		c.set(answer, market, "getReservesList()")
		if alices, _ := c.read(t, at("aave-v3", market)); alices[0].Missing == "" || alices[0].HasAny() {
			t.Errorf("%s: read as %s", name, of(alices[0]))
		}
	}
}
