package defi_test

import (
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/defi"
)

// aavePool is a pool of @aave/core-v3 1.19.3 with three reserves. A first one was dropped, so that their ids are not
// their places in the list.
type aavePool struct {
	*network
	pool, oracle, configurator contract
	admin                      common.Address
	weth, usdc, dai            contract
}

func newAavePool(t *testing.T) *aavePool {
	t.Helper()
	n := startNetwork(t)
	p := &aavePool{network: n, admin: n.account(t, 0)}
	provider := n.create(t, aave("protocol/configuration", "PoolAddressesProvider"), "test", p.admin)
	provider.send(t, p.admin, "setACLAdmin", p.admin)
	acl := n.create(t, aave("protocol/configuration", "ACLManager"), provider.Address)
	provider.send(t, p.admin, "setACLManager", acl.Address)
	acl.send(t, p.admin, "addPoolAdmin", p.admin)
	acl.send(t, p.admin, "addAssetListingAdmin", p.admin)
	p.oracle = n.create(t, aave("misc", "AaveOracle"), provider.Address, []common.Address{}, []common.Address{},
		common.Address{}, common.Address{}, big.NewInt(1e8))
	provider.send(t, p.admin, "setPriceOracle", p.oracle.Address)
	provider.send(t, p.admin, "setPoolImpl", n.create(t, aave("protocol/pool", "Pool"), provider.Address).Address)
	provider.send(t, p.admin, "setPoolConfiguratorImpl",
		n.create(t, aave("protocol/pool", "PoolConfigurator")).Address)
	at := n.newest(t)
	p.pool = n.at(t, aave("protocol/pool", "Pool"), provider.ask(t, at, p.admin, "getPool")[0].(common.Address))
	p.configurator = n.at(t, aave("protocol/pool", "PoolConfigurator"),
		provider.ask(t, at, p.admin, "getPoolConfigurator")[0].(common.Address))
	ray := func(thousandths int64) *big.Int {
		return new(big.Int).Mul(big.NewInt(thousandths), new(big.Int).Exp(big.NewInt(10), big.NewInt(24), nil))
	}
	strategy := n.create(t, aave("protocol/pool", "DefaultReserveInterestRateStrategy"), provider.Address, ray(800),
		ray(0), ray(40), ray(750), ray(5), ray(750), ray(10), ray(80), ray(200)).Address
	var tokens []contract
	for i, name := range []string{"OLD", "WETH", "USDC", "DAI"} {
		decimals := []uint8{18, 18, 6, 18}[i]
		token := n.create(t, aave("mocks/tokens", "MintableERC20"), name, name, decimals)
		tokens = append(tokens, token)
		p.list(t, token, decimals, strategy)
		p.price(t, token, []int64{1e8, 2000e8, 1e8, 1e8}[i])
	}
	p.configurator.send(t, p.admin, "dropReserve", tokens[0].Address)
	p.weth, p.usdc, p.dai = tokens[1], tokens[2], tokens[3]
	for _, token := range []contract{p.usdc, p.dai} {
		p.configurator.send(t, p.admin, "setReserveBorrowing", token.Address, true)
		p.configurator.send(t, p.admin, "setReserveStableRateBorrowing", token.Address, true)
	}
	for _, token := range tokens[1:] {
		p.configurator.send(t, p.admin, "configureReserveAsCollateral", token.Address, big.NewInt(7500),
			big.NewInt(8000), big.NewInt(10500))
	}
	return p
}

// list adds a reserve.
func (p *aavePool) list(t *testing.T, token contract, decimals uint8, strategy common.Address) {
	t.Helper()
	implementation := func(name string) common.Address {
		return p.create(t, aave("protocol/tokenization", name), p.pool.Address).Address
	}
	type reserve struct {
		ATokenImpl, StableDebtTokenImpl, VariableDebtTokenImpl                   common.Address
		UnderlyingAssetDecimals                                                  uint8
		InterestRateStrategyAddress, UnderlyingAsset, Treasury                   common.Address
		IncentivesController                                                     common.Address
		ATokenName, ATokenSymbol, VariableDebtTokenName, VariableDebtTokenSymbol string
		StableDebtTokenName, StableDebtTokenSymbol                               string
		Params                                                                   []byte
	}
	p.configurator.send(t, p.admin, "initReserves", []reserve{{
		ATokenImpl: implementation("AToken"), StableDebtTokenImpl: implementation("StableDebtToken"),
		VariableDebtTokenImpl: implementation("VariableDebtToken"), UnderlyingAssetDecimals: decimals,
		InterestRateStrategyAddress: strategy, UnderlyingAsset: token.Address, Treasury: common.Address{7},
		Params: []byte{}}})
}

// price sets what the oracle says of a token, in 1/1e8 dollars.
func (p *aavePool) price(t *testing.T, token contract, price int64) {
	t.Helper()
	feed := p.create(t, "@aave/core-v3/artifacts/contracts/mocks/oracle/CLAggregators/MockAggregator.sol/"+
		"MockAggregator.json", big.NewInt(price))
	p.oracle.send(t, p.admin, "setAssetSources", []common.Address{token.Address}, []common.Address{feed.Address})
}

// supply mints and supplies units of a token.
func (p *aavePool) supply(t *testing.T, who common.Address, token contract, amount *big.Int) {
	t.Helper()
	p.fund(t, who, token, amount)
	p.pool.send(t, who, "supply", token.Address, amount, who, uint16(0))
}

func (p *aavePool) fund(t *testing.T, who common.Address, token contract, amount *big.Int) {
	t.Helper()
	token.send(t, p.admin, "mint", who, amount)
	token.send(t, who, "approve", p.pool.Address, new(big.Int).Lsh(big.NewInt(1), 255))
}

// borrow borrows at the stable rate (1) or the variable one (2).
func (p *aavePool) borrow(t *testing.T, who common.Address, token contract, amount *big.Int, mode int64) {
	t.Helper()
	p.pool.send(t, who, "borrow", token.Address, amount, big.NewInt(mode), uint16(0), who)
}

func (p *aavePool) market() string { return "aave-v3@eip155:1:" + p.pool.Hex() }

func lower(s string) string { return strings.ToLower(s) }

// find returns the amount of a holder's position and its collateral flag; "" when there is none.
func find(r defi.Reading, kind defi.Kind, mode defi.RateMode, token contract) (amount string, collateral bool) {
	for _, p := range r.Positions {
		if p.Kind == kind && p.Mode == mode && p.Asset == "eip155:1/erc20:"+lower(token.Hex()) && !p.Ended {
			return p.Amount.Dec(), p.Collateral
		}
	}
	return "", false
}

// allOf is the argument of withdraw and repay for all that there is.
var allOf = new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 256), big.NewInt(1))

// Amounts are what withdraw pays and repay takes in the block, a year after; flags, modes and the account are the
// pool's own.
func TestARealAavePoolPaysAndTakesWhatItsPositionsSay(t *testing.T) {
	p := newAavePool(t)
	lender, holder, tiny, efficient := p.account(t, 1), p.account(t, 2), p.account(t, 3), p.account(t, 4)
	units := func(n int64, decimals int64) *big.Int {
		return new(big.Int).Mul(big.NewInt(n), new(big.Int).Exp(big.NewInt(10), big.NewInt(decimals), nil))
	}
	p.supply(t, lender, p.usdc, units(100_000, 6))
	p.supply(t, lender, p.dai, units(100_000, 18))
	p.supply(t, holder, p.weth, units(100, 18))
	p.supply(t, holder, p.dai, units(777, 18))
	p.pool.send(t, holder, "setUserUseReserveAsCollateral", p.dai.Address, false)
	p.borrow(t, holder, p.usdc, units(64_000, 6), 2)
	p.borrow(t, holder, p.dai, units(1000, 18), 1)
	p.supply(t, tiny, p.weth, units(1, 18))
	p.borrow(t, tiny, p.dai, big.NewInt(1), 2)
	p.configurator.send(t, p.admin, "setEModeCategory", uint8(1), uint16(9700), uint16(9750), uint16(10100),
		common.Address{}, "dollars")
	p.configurator.send(t, p.admin, "setAssetEModeCategory", p.usdc.Address, uint8(1))
	p.configurator.send(t, p.admin, "setAssetEModeCategory", p.dai.Address, uint8(1))
	p.supply(t, efficient, p.dai, units(100, 18))
	p.pool.send(t, efficient, "setUserEMode", uint8(1))
	p.borrow(t, efficient, p.usdc, units(90, 6), 2)
	p.fund(t, holder, p.usdc, units(1_000_000, 6))
	p.fund(t, holder, p.dai, units(1_000_000, 18))
	p.later(t, 365*24*time.Hour)
	at := p.newest(t)
	holders := []common.Address{holder, lender, tiny, efficient, {9}}
	read := p.read(t, at, p.market(), holders...)
	r := read[0]
	for _, tc := range []struct {
		kind      defi.Kind
		mode      defi.RateMode
		token     contract
		by        string
		arguments []any
	}{
		{defi.Supplied, "", p.dai, "withdraw", []any{p.dai.Address, allOf, holder}},
		{defi.Borrowed, defi.Variable, p.usdc, "repay", []any{p.usdc.Address, allOf, big.NewInt(2), holder}},
		{defi.Borrowed, defi.Stable, p.dai, "repay", []any{p.dai.Address, allOf, big.NewInt(1), holder}},
	} {
		got, _ := find(r, tc.kind, tc.mode, tc.token)
		if want := p.pool.number(t, at, holder, tc.by, tc.arguments...); got != want || want == "0" {
			t.Errorf("%s %s is %s, and %s says %s", tc.kind, tc.mode, got, tc.by, want)
		}
	}
	if amount, collateral := find(r, defi.Supplied, "", p.weth); amount != units(100, 18).String() || !collateral {
		t.Errorf("the collateral is %s, %t", amount, collateral)
	}
	if _, collateral := find(r, defi.Supplied, "", p.dai); collateral {
		t.Error("a supply that is switched off is told as collateral")
	}
	for i, h := range holders {
		p.checkAccount(t, at, h, read[i])
	}
	if read[3].Account.EMode != 1 || read[3].Account.Threshold != "0.975" {
		t.Errorf("the account in the e-mode is %+v", read[3].Account)
	}
	if a := read[2].Account; a.Health != "" || !a.HasDebt {
		t.Errorf("a debt that is too small to see is told as %+v", a)
	}
	if a := read[1].Account; a.Health != "" || a.HasDebt {
		t.Errorf("an account without a debt is told as %+v", a)
	}
	if read[4].HasAny() || read[4].Account != nil {
		t.Errorf("who has none has %+v", read[4])
	}
	// Without a price the account is unknown, the price is named, and the amounts are as before.
	p.price(t, p.usdc, 0)
	r = p.read(t, p.newest(t), p.market(), holder)[0]
	if debt, _ := find(r, defi.Borrowed, defi.Variable, p.usdc); r.Account != nil || debt == "" ||
		!strings.Contains(r.Missing, "price of eip155:1/erc20:"+lower(p.usdc.Hex())) {
		t.Errorf("without a price it is read as %+v", r)
	}
}

// checkAccount compares an account with getUserAccountData.
func (p *aavePool) checkAccount(t *testing.T, at block.Block, holder common.Address, r defi.Reading) {
	t.Helper()
	if r.Missing != "" {
		t.Errorf("missing: %s", r.Missing)
	}
	if r.Account == nil {
		return
	}
	said := p.pool.ask(t, at, holder, "getUserAccountData", holder)
	health := ""
	if h := said[5].(*big.Int); h.Cmp(allOf) != 0 {
		health = strings.TrimRight(fmt.Sprintf("%s.%018d", new(big.Int).Quo(h, big.NewInt(1e18)),
			new(big.Int).Rem(h, big.NewInt(1e18))), "0")
	}
	a := r.Account
	if a.Collateral.Dec() != said[0].(*big.Int).String() || a.Debt.Dec() != said[1].(*big.Int).String() ||
		a.Health != health || a.Unit.Dec() != "100000000" {
		t.Errorf("the account is %+v, and the pool says %v", a, said)
	}
}
