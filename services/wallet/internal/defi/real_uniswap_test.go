package defi_test

import (
	"math/big"
	"testing"

	"github.com/ethereum/go-ethereum/common"
)

// The amounts of a share are what burn pays, with the protocol's fee on. The control is reserves times shares over
// supply, which is more.
func TestARealPairPaysWhatItsPositionsSay(t *testing.T) {
	n := startNetwork(t)
	owner, holder, protocol := n.account(t, 0), n.account(t, 1), n.account(t, 2)
	const preset = "@openzeppelin/contracts/build/contracts/ERC20PresetFixedSupply.json"
	supply := new(big.Int).Exp(big.NewInt(10), big.NewInt(30), nil)
	a, b := n.create(t, preset, "A", "A", supply, owner), n.create(t, preset, "B", "B", supply, owner)
	factory := n.create(t, "@uniswap/v2-core/build/UniswapV2Factory.json", owner)
	factory.send(t, owner, "setFeeTo", protocol)
	factory.send(t, owner, "createPair", a.Address, b.Address)
	address := factory.ask(t, n.newest(t), owner, "getPair", a.Address, b.Address)[0].(common.Address)
	pair := n.at(t, "@uniswap/v2-core/build/UniswapV2Pair.json", address)
	if pair.ask(t, n.newest(t), owner, "token0")[0].(common.Address) != a.Address {
		a, b = b, a
	}
	amount := func(v int64) *big.Int { return new(big.Int).Mul(big.NewInt(v), big.NewInt(1e15)) }
	a.send(t, owner, "transfer", address, amount(1_000_000))
	b.send(t, owner, "transfer", address, amount(4_000_000))
	pair.send(t, owner, "mint", holder)
	for range 20 { // each swap pays the pair more than its curve asks for
		a.send(t, owner, "transfer", address, amount(100_000))
		pair.send(t, owner, "swap", big.NewInt(0), amount(60_000), owner, []byte{})
	}
	a.send(t, owner, "transfer", address, amount(3)) // beside its reserves
	at := n.newest(t)
	market := "uniswap-v2@eip155:1:" + address.Hex()
	r := n.read(t, at, market, holder, owner)
	shares := pair.ask(t, at, holder, "balanceOf", holder)[0].(*big.Int)
	reserves := pair.ask(t, at, holder, "getReserves")
	total := pair.ask(t, at, holder, "totalSupply")[0].(*big.Int)
	pair.send(t, holder, "transfer", address, shares)
	paid := pair.ask(t, n.newest(t), holder, "burn", holder)
	for i, p := range r[0].Positions {
		if p.Amount.Dec() != paid[i].(*big.Int).String() || r[0].Missing != "" {
			t.Errorf("the position is %+v, and burn pays %s", p, paid[i])
		}
		naive := new(big.Int).Mul(reserves[i].(*big.Int), shares)
		if naive.Div(naive, total).Cmp(paid[i].(*big.Int)) == 0 {
			t.Error("the control, reserves over supply, pays the same")
		}
	}
	if len(r[0].Positions) != 2 || r[1].HasAny() {
		t.Errorf("the readings are %+v", r)
	}
}
