package defi_test

import (
	"math/big"
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"github.com/purserhq/purser/services/wallet/internal/defi"
)

// sushi is the path of an artifact of @sushiswap/core.
func sushi(name string) string {
	return "@sushiswap/core/artifacts/contracts/" + name + ".sol/" + name + ".json"
}

// The amount of a stake is what leave pays in the block, to the last unit, before and after the bar earns, and
// what the growth index says that it has grown by. The control is the price of one share times the shares.
func TestARealBarPaysWhatItsPositionSays(t *testing.T) {
	n := startNetwork(t)
	owner, holder := n.account(t, 0), n.account(t, 1)
	token := n.create(t, sushi("SushiToken"))
	bar := n.create(t, sushi("SushiBar"), token.Address)
	market := "sushi-bar@eip155:1:" + bar.Hex()
	if r := n.read(t, n.newest(t), market, holder)[0]; r.Missing != "" || r.HasAny() {
		t.Fatalf("before anybody entered: %+v", r)
	}
	stake, _ := new(big.Int).SetString("900000000123456789012345678", 10)
	for who, amount := range map[common.Address]*big.Int{owner: big.NewInt(1_000_000), holder: stake} {
		token.send(t, owner, "mint", who, amount)
		token.send(t, who, "approve", bar.Address, amount)
	}
	bar.send(t, owner, "enter", big.NewInt(700_001))
	bar.send(t, holder, "enter", stake)

	shares := bar.ask(t, n.newest(t), holder, "balanceOf", holder)[0].(*big.Int)
	read := func() defi.Position {
		r := n.read(t, n.newest(t), market, holder, common.Address{1})
		if r[1].HasAny() || r[1].Missing != "" {
			t.Errorf("who has none has %+v", r[1])
		}
		want := n.gain(t, token, holder, func() { bar.send(t, holder, "leave", shares) })
		if r[0].Missing != "" || len(r[0].Positions) != 1 || r[0].Positions[0].Amount.Dec() != want {
			t.Fatalf("the position is %+v, and leave pays %s", r[0], want)
		}
		return r[0].Positions[0]
	}
	entered := read()
	if entered.Kind != defi.Staked || entered.Asset != "eip155:1/erc20:"+lower(token.Hex()) ||
		entered.Receipt != "eip155:1/erc20:"+lower(bar.Hex()) || entered.Amount.Dec() != stake.String() {
		t.Errorf("the position is %+v", entered)
	}
	yield, _ := new(big.Int).SetString("123456789000000000000000007", 10)
	token.send(t, owner, "mint", bar.Address, yield)
	earned := read()
	one := new(big.Int).Exp(big.NewInt(10), big.NewInt(18), nil)
	has := token.ask(t, n.newest(t), owner, "balanceOf", bar.Address)[0].(*big.Int)
	supply := bar.ask(t, n.newest(t), owner, "totalSupply")[0].(*big.Int)
	price := new(big.Int).Div(new(big.Int).Mul(one, has), supply)
	if naive := price.Mul(price, shares); naive.Div(naive, one).String() == earned.Amount.Dec() {
		t.Error("the control, a share's price times the shares, loses nothing here")
	}
	by := new(big.Int).Mul(entered.Amount.ToBig(), earned.GrowthIndex.ToBig())
	by.Div(by, entered.GrowthIndex.ToBig())
	if off := by.Sub(by, earned.Amount.ToBig()); off.CmpAbs(big.NewInt(10)) > 0 {
		t.Errorf("by the growth index the amount is %s units off", off)
	}
	bar.send(t, holder, "leave", shares)
	if r := n.read(t, n.newest(t), market, holder)[0]; r.Missing != "" || r.HasAny() {
		t.Errorf("after it left: %+v", r)
	}
}

// What is no bar is told, and the bar beside it is read.
func TestWhatIsNoRealBarIsUnknownAndHarmsNoOther(t *testing.T) {
	n := startNetwork(t)
	owner := n.account(t, 0)
	token := n.create(t, sushi("SushiToken"))
	bar := n.create(t, sushi("SushiBar"), token.Address)
	chef := n.create(t, sushi("MasterChef"), token.Address, owner, big.NewInt(1), big.NewInt(0), big.NewInt(0))
	token.send(t, owner, "mint", owner, big.NewInt(9))
	token.send(t, owner, "approve", bar.Address, big.NewInt(9))
	bar.send(t, owner, "enter", big.NewInt(9))
	for name, address := range map[string]common.Address{"the token": token.Address, "an account": owner,
		"a contract that has the token, but no shares": chef.Address} {
		setting := "sushi-bar@eip155:1:" + address.Hex() + ",sushi-bar@eip155:1:" + bar.Hex()
		r := n.readAll(t, n.newest(t), setting, owner)[0]
		if r[0].Missing != "the contract answers as no SushiBar does" || r[0].HasAny() {
			t.Errorf("%s is read as %+v", name, r[0])
		}
		if r[1].Missing != "" || r[1].Positions[0].Amount.Dec() != "9" {
			t.Errorf("beside %s the bar is read as %+v", name, r[1])
		}
	}
}
