package chain_test

import (
	"context"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/holiman/uint256"

	"github.com/purserhq/purser/services/devstack/chain"
	"github.com/purserhq/purser/services/devstack/prices"
)

func withDefi(o *chain.Options) { o.Defi, o.History = true, 10*24*time.Hour }

// raw calls a method of a contract at a block (nil is the newest).
func (r reader) raw(contract string, to common.Address, block *big.Int, method string, args ...any) []byte {
	r.t.Helper()
	input, err := artifact(r.t, contract).ABI.Pack(method, args...)
	if err != nil {
		r.t.Fatal(err)
	}
	raw, err := r.CallContract(r.t.Context(), ethereum.CallMsg{To: &to, Data: input}, block)
	if err != nil {
		r.t.Fatalf("%s: %v", method, err)
	}
	return raw
}

// one calls a method of a contract and returns its results.
func (r reader) one(contract string, to common.Address, block *big.Int, method string, args ...any) []any {
	r.t.Helper()
	out, err := artifact(r.t, contract).ABI.Unpack(method, r.raw(contract, to, block, method, args...))
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

func (r reader) big(contract string, to common.Address, block *big.Int, method string, args ...any) *big.Int {
	r.t.Helper()
	return r.one(contract, to, block, method, args...)[0].(*big.Int)
}

func market(t *testing.T, c *chain.Chain, name string) common.Address {
	t.Helper()
	m, ok := c.Market(name)
	if !ok {
		t.Fatalf("no market %q", name)
	}
	return m.Address
}

// lendingTokens are the supply and the debt token of an asset.
func lendingTokens(r reader, pool, asset common.Address) (supplied, borrowed common.Address) {
	r.t.Helper()
	data := r.raw("LendingPool", pool, nil, "getReserveData", asset)
	return common.BytesToAddress(words(data)[8][:]), common.BytesToAddress(words(data)[10][:])
}

// Every DeFi transaction of the history has succeeded, the holders' balances are those of a chain without DeFi, and
// Alice has what Markets says.
func TestAChainWithDefiHasItsMarketsAndTheHoldersBalancesOfThePlan(t *testing.T) {
	t.Parallel()
	c := start(t, withDefi)
	r := dial(t, c)
	alice := c.Cast().Alice.Address
	calls := 0
	for number := uint64(1); number <= c.Head().Number; number++ {
		block, err := r.BlockByNumber(t.Context(), new(big.Int).SetUint64(number))
		if err != nil {
			t.Fatal(err)
		}
		for _, tx := range block.Transactions() {
			receipt, err := r.TransactionReceipt(t.Context(), tx.Hash())
			if err != nil || receipt.Status != types.ReceiptStatusSuccessful {
				t.Fatalf("block %d: %s, to %v, failed: %v", number, tx.Hash(), tx.To(), err)
			}
			if tx.Gas() > 100_000 {
				calls++
			}
		}
	}
	// Six tokens, 26 contracts and a pair, the listing of five reserves and the end of one, the opening, and ten days.
	if want := 6 + 26 + 1 + 5 + 1 + 1 + 10; calls != want {
		t.Errorf("%d deployments and calls, want %d", calls, want)
	}
	for _, holder := range c.Holders() {
		for symbol, asset := range assets(c) {
			want := c.Expected(holder, asset, c.Head().Time)
			if have := r.balance(holder, asset, nil); !have.Eq(want) {
				t.Errorf("%s has %s of %s, the plan says %s", holder, have, symbol, want)
			}
		}
	}
	pool := market(t, c, chain.LendingPoolName)
	weth, usdc, dai := token(t, c, "WETH").Address, token(t, c, "USDC").Address, token(t, c, "DAI").Address
	atLeast := func(what string, have *big.Int, whole uint64, decimals uint8, off int64) {
		t.Helper()
		minimum := new(big.Int).Sub(tokens(whole, decimals).ToBig(), big.NewInt(off))
		maximum := new(big.Int).Mul(tokens(whole, decimals).ToBig(), big.NewInt(2))
		if have.Cmp(minimum) < 0 || have.Cmp(maximum) > 0 {
			t.Errorf("alice has %s of %s, want %s and somewhat more", have, what, minimum)
		}
	}
	supplied, _ := lendingTokens(r, pool, weth)
	atLeast("WETH supplied", r.big("SupplyToken", supplied, nil, "balanceOf", alice), 10, 18, -1)
	supplied, _ = lendingTokens(r, pool, dai)
	atLeast("DAI supplied", r.big("SupplyToken", supplied, nil, "balanceOf", alice), 5_000, 18, -1)
	_, borrowed := lendingTokens(r, pool, usdc)
	atLeast("USDC borrowed", r.big("VariableDebtToken", borrowed, nil, "balanceOf", alice), 8_000, 6, -1)
	vault, staked := market(t, c, "USDC vault"), market(t, c, "stETH")
	atLeast("the vault", r.big("YieldVault", vault, nil, "convertToAssets",
		r.big("YieldVault", vault, nil, "balanceOf", alice)), 20_000, 6, -1)
	atLeast("stETH", r.big("StakedEther", staked, nil, "balanceOf", alice), 4, 18, -1)
	wrapped := r.big("WrappedStakedEther", market(t, c, "wstETH"), nil, "balanceOf", alice)
	atLeast("wstETH", r.big("WrappedStakedEther", market(t, c, "wstETH"), nil, "getStETHByWstETH", wrapped), 3, 18, -1)
	staking := market(t, c, "LINK staking")
	atLeast("LINK staked", r.big("StakingRewards", staking, nil, "balanceOf", alice), 500, 18, 0)
	// A twentieth of 500 DAI a day.
	seconds := c.Head().Time.Unix() - c.Plan().At(3).Unix()
	daily := new(big.Int).Div(new(big.Int).Mul(tokens(25, 18).ToBig(), big.NewInt(seconds)), big.NewInt(86_400))
	earned := r.big("StakingRewards", staking, nil, "earned", alice)
	if diff := new(big.Int).Sub(daily, earned); diff.CmpAbs(big.NewInt(1e9)) > 0 {
		t.Errorf("alice has earned %s DAI, want about %s", earned, daily)
	}
	if list := r.one("LendingPool", pool, nil, "getReservesList")[0].([]common.Address); len(list) != 4 ||
		list[1] != usdc {
		t.Errorf("the reserves are %v", list)
	}
	bits := new(big.Int).SetBytes(r.raw("LendingPool", pool, nil, "getUserConfiguration", alice))
	if bits.Int64() != 2|1<<4 { // WETH of id 0 as collateral, USDC of id 2 borrowed, DAI not as collateral
		t.Errorf("alice's bits are %b", bits)
	}
}

// What the pool pays for everything is the balance at that block, and the balance grows with every block.
func TestAWithdrawalPaysTheBalanceOfItsBlock(t *testing.T) {
	t.Parallel()
	c := start(t, withDefi)
	r := dial(t, c)
	alice, dai := c.Cast().Alice, token(t, c, "DAI").Address
	pool := market(t, c, chain.LendingPoolName)
	supplied, _ := lendingTokens(r, pool, dai)
	lending := artifact(t, "LendingPool").ABI
	all := new(uint256.Int).SetAllOne()
	input, err := lending.Pack("withdraw", dai, all.ToBig(), alice.Address)
	if err != nil {
		t.Fatal(err)
	}
	last := new(big.Int)
	for number := uint64(3); number <= c.Head().Number; number += 20 {
		at := new(big.Int).SetUint64(number)
		balance := r.big("SupplyToken", supplied, at, "balanceOf", alice.Address)
		raw, err := r.CallContract(t.Context(), ethereum.CallMsg{From: alice.Address, To: &pool, Data: input}, at)
		if err != nil {
			t.Fatal(err)
		}
		if paid := new(big.Int).SetBytes(raw); paid.Cmp(balance) != 0 || paid.Cmp(last) <= 0 {
			t.Fatalf("at block %d withdraw pays %s, the balance is %s and was %s", number, paid, balance, last)
		}
		last = balance
	}
	before := r.balance(alice.Address, dai, nil)
	scaled := r.big("SupplyToken", supplied, nil, "scaledBalanceOf", alice.Address)
	if _, err := c.Withdraw(context.WithoutCancel(t.Context()), alice, dai, all); err != nil {
		t.Fatal(err)
	}
	mine(t, c)
	paid := new(uint256.Int).Sub(r.balance(alice.Address, dai, nil), before).ToBig()
	want := rayTimes(scaled, r.big("LendingPool", pool, nil, "getReserveNormalizedIncome", dai))
	if paid.Cmp(want) != 0 || r.big("SupplyToken", supplied, nil, "scaledBalanceOf", alice.Address).Sign() != 0 {
		t.Errorf("paid %s, the balance was %s", paid, want)
	}
}

func TestTheHelpersSupplyBorrowAndRepay(t *testing.T) {
	t.Parallel()
	c := start(t, func(o *chain.Options) { o.Defi, o.History = true, 3*time.Hour })
	r := dial(t, c)
	faucet, weth, usdc := c.Cast().Faucet, token(t, c, "WETH"), token(t, c, "USDC")
	pool := market(t, c, chain.LendingPoolName)
	supplied, _ := lendingTokens(r, pool, weth.Address)
	_, borrowed := lendingTokens(r, pool, usdc.Address)
	do := func(send func(context.Context, chain.Account, common.Address, *uint256.Int) (common.Hash, error),
		asset common.Address, amount *uint256.Int) {
		t.Helper()
		hash, err := send(t.Context(), faucet, asset, amount)
		if err != nil {
			t.Fatal(err)
		}
		mine(t, c)
		if receipt, err := r.TransactionReceipt(t.Context(), hash); err != nil || receipt.Status != 1 {
			t.Fatalf("the transaction failed: %v", err)
		}
	}
	do(c.Supply, weth.Address, tokens(3, 18))
	if have := r.big("SupplyToken", supplied, nil, "scaledBalanceOf", faucet.Address); have.Sign() == 0 {
		t.Error("nothing is supplied")
	}
	do(c.Borrow, usdc.Address, tokens(100, 6))
	owed := r.big("VariableDebtToken", borrowed, nil, "balanceOf", faucet.Address)
	if owed.Sub(owed, big.NewInt(100_000_000)).CmpAbs(big.NewInt(1)) > 0 {
		t.Errorf("%s too much is owed", owed)
	}
	do(c.Repay, usdc.Address, new(uint256.Int).SetAllOne())
	if have := r.big("VariableDebtToken", borrowed, nil, "scaledBalanceOf", faucet.Address); have.Sign() != 0 {
		t.Errorf("%s is still owed", have)
	}
	do(c.Withdraw, weth.Address, new(uint256.Int).SetAllOne())
	if have := r.big("SupplyToken", supplied, nil, "scaledBalanceOf", faucet.Address); have.Sign() != 0 {
		t.Errorf("%s is still supplied", have)
	}
}

// The pair is within some percent of the feeds' price, and its shares can be paid out. A vault pays what it previews.
func TestThePairAndTheVaultAreWorthWhatTheySay(t *testing.T) {
	t.Parallel()
	c := start(t, withDefi)
	r := dial(t, c)
	weth, usdc := token(t, c, "WETH"), token(t, c, "USDC")
	pair := market(t, c, "WETH/USDC pair")
	reserves := r.one("LiquidityPair", pair, nil, "getReserves")
	amount := map[common.Address]*big.Int{
		r.one("LiquidityPair", pair, nil, "token0")[0].(common.Address): reserves[0].(*big.Int),
		r.one("LiquidityPair", pair, nil, "token1")[0].(common.Address): reserves[1].(*big.Int),
	}
	text, _ := prices.PriceAt("WETH", c.Head().Time)
	price, _ := new(big.Rat).SetString(text)
	ofPair := new(big.Rat).SetFrac(new(big.Int).Mul(amount[usdc.Address], big.NewInt(1e12)), amount[weth.Address])
	if ratio, _ := ofPair.Quo(ofPair, price).Float64(); ratio < 0.85 || ratio > 1.15 {
		t.Errorf("the pair's price is %.3f of the feed's", ratio)
	}
	for symbol, asset := range map[string]common.Address{"WETH": weth.Address, "USDC": usdc.Address} {
		if have := r.balance(pair, asset, nil).ToBig(); have.Cmp(amount[asset]) != 0 {
			t.Errorf("the pair has %s %s, its reserve is %s", have, symbol, amount[asset])
		}
	}
	alice, vault := c.Cast().Alice, market(t, c, "USDC vault")
	shares := r.big("YieldVault", vault, nil, "balanceOf", alice.Address)
	before := r.balance(alice.Address, usdc.Address, nil)
	data, err := artifact(t, "YieldVault").ABI.Pack("redeem", shares, alice.Address, alice.Address)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Transact(t.Context(), alice, vault, data); err != nil {
		t.Fatal(err)
	}
	block := new(big.Int).SetUint64(c.Head().Number)
	preview := r.big("YieldVault", vault, block, "previewRedeem", shares)
	mine(t, c)
	paid := new(uint256.Int).Sub(r.balance(alice.Address, usdc.Address, nil), before).ToBig()
	// A second has passed since the preview, in which the vault has earned some millionths of a dollar.
	if more := new(big.Int).Sub(paid, preview); more.Sign() < 0 || more.Int64() > 1_000 {
		t.Errorf("the vault paid %s, previewed %s", paid, preview)
	}
	if value := r.big("YieldVault", vault, block, "convertToAssets", shares); value.Cmp(preview) <= 0 {
		t.Errorf("the exit fee isn't in the preview: %s of %s", preview, value)
	}
}

func TestDefiIsOffUnlessAsked(t *testing.T) {
	t.Parallel()
	c := shared(t)
	if m := c.Markets(); len(m) != 0 {
		t.Errorf("a chain without DeFi has %v", m)
	}
	if _, err := c.Supply(t.Context(), c.Cast().Faucet, token(t, c, "WETH").Address, uint256.NewInt(1)); err == nil ||
		!strings.Contains(err.Error(), "without Options.Defi") {
		t.Errorf("supply without a pool: %v", err)
	}
	dir := t.TempDir()
	o := chain.Options{Dir: dir, Anchor: anchor(), Now: newClock(anchor()).Now, History: shortHistory}
	first, err := chain.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	o.Defi = true
	again, err := chain.Start(t.Context(), o) // it goes on as it was made
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = again.Close() }()
	if m := again.Markets(); len(m) != 0 {
		t.Errorf("a chain that was made without DeFi has %v", m)
	}
}
