package defi_test

import (
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"

	"github.com/purserhq/purser/services/wallet/internal/block"
)

// lane is one of the markets that go through the same steps.
type lane struct {
	// market is that of the setting, and main the contract of it that is called.
	market string
	main   contract
	// names are those of contracts that others have under another address, by their CAIP-19 ids.
	names map[string]string
	// yield makes the calls by which a vault earns so much.
	yield func(amount *big.Int) []act
}

// lanes are the published contracts, those of our development chain, and a control, whose settings are others.
type lanes struct{ real, ours, control lane }

// act is a call that changes something.
type act struct {
	to     contract
	method string
	args   []any
}

// alikeStep is a step of each lane, in a block of its own that is wait after the one before. amount is in whole
// tokens, or all; do "look" only lets the time pass. refused is one that the market doesn't take.
type alikeStep struct {
	wait                  time.Duration
	by, do, asset, amount string
	refused               bool
}

// alike carries out tables of steps.
type alike struct {
	*aavePool
	users map[string]common.Address
}

// newAlike is a network with a pool of Aave, tokens, and two users who have all that they need. From then on blocks
// are made by a step only.
func newAlike(t *testing.T) *alike {
	t.Helper()
	p := newAavePool(t)
	a := &alike{aavePool: p, users: map[string]common.Address{"ann": p.account(t, 1), "ben": p.account(t, 2)}}
	p.configurator.send(t, p.admin, "setReserveFactor", p.usdc.Address, big.NewInt(1000))
	for _, user := range a.users {
		for _, token := range []contract{p.weth, p.usdc, p.dai} {
			p.fund(t, user, token, new(big.Int).Exp(big.NewInt(10), big.NewInt(26), nil))
		}
	}
	return a
}

// ours deploys a contract of the development chain.
func (a *alike) ours(t *testing.T, name string, args ...any) contract {
	t.Helper()
	return a.deploy(t, ourArtifact(t, name), args...)
}

func ourArtifact(t *testing.T, name string) compiled {
	t.Helper()
	text, err := os.ReadFile(filepath.FromSlash("../../../devstack/chain/artifacts/" + name + ".json"))
	if err != nil {
		t.Fatal(err)
	}
	return readCompiled(t, text)
}

func (a *alike) token(name string) contract {
	return map[string]contract{"WETH": a.weth, "USDC": a.usdc, "DAI": a.dai}[name]
}

func (a *alike) approve(t *testing.T, token contract, spender common.Address) {
	t.Helper()
	for _, user := range a.users {
		token.send(t, user, "approve", spender, new(big.Int).Lsh(big.NewInt(1), 255))
	}
}

// run carries out a table on all lanes. After each step the lanes' readings must be the same, to the last digit, and
// the control's must differ after one of them.
func (a *alike) run(t *testing.T, l lanes, steps []alikeStep) {
	t.Helper()
	a.Call(t, new(any), "evm_setAutomine", false)
	defer a.Call(t, new(any), "evm_setAutomine", true)
	holders := []common.Address{a.users["ann"], a.users["ben"], {9}}
	differs, open := 0, 0
	for i, s := range steps {
		name := fmt.Sprintf("step %d, %s %s %s %s", i, s.by, s.do, s.amount, s.asset)
		at := a.step(t, name, l, s)
		want := a.told(t, at, l.real, holders)
		if have := a.told(t, at, l.ours, holders); have != want {
			t.Fatalf("after %s ours are\n%s\nand the published ones\n%s", name, have, want)
		}
		if a.told(t, at, l.control, holders) != want {
			differs++
		}
		if strings.Contains(want, " has ") {
			open++
		}
	}
	if differs == 0 || open == 0 {
		t.Errorf("after %d of %d steps the control differs, after %d there are positions", differs, len(steps), open)
	}
}

// step sends the calls of a step of all lanes, and mines them in one block.
func (a *alike) step(t *testing.T, name string, l lanes, s alikeStep) block.Block {
	t.Helper()
	before := a.newest(t)
	refused := map[string]bool{} // by the hash of what was sent
	for _, of := range []lane{l.real, l.ours, l.control} {
		acts := a.acts(t, before, of, s)
		for i, x := range acts {
			data, err := x.to.Pack(x.method, x.args...)
			if err != nil {
				t.Fatal(err)
			}
			var hash string
			a.Call(t, &hash, "eth_sendTransaction", map[string]any{"from": a.users[s.by], "to": x.to.Address,
				"data": hexutil.Bytes(data), "gas": "0x200000"})
			refused[hash] = s.refused && i == len(acts)-1
		}
	}
	a.Call(t, new(any), "evm_setNextBlockTimestamp", before.Time.Add(max(s.wait, time.Second)).Unix())
	a.Call(t, new(any), "evm_mine")
	for hash, want := range refused {
		var receipt struct{ To, Status string }
		a.Call(t, &receipt, "eth_getTransactionReceipt", hash)
		if (receipt.Status == "0x0") != want || receipt.Status == "" {
			t.Fatalf("%s of %s: the status is %q, and that it is refused %t", name, receipt.To, receipt.Status, want)
		}
	}
	return a.newest(t)
}

// acts are the calls of a step in a lane.
func (a *alike) acts(t *testing.T, at block.Block, l lane, s alikeStep) []act {
	t.Helper()
	by, market := a.users[s.by], l.main
	one := func(method string, args ...any) []act { return []act{{market, method, args}} }
	token := a.token(s.asset)
	amount := a.units(t, at, s, token)
	switch s.do {
	case "look":
		return nil
	case "supply":
		return one("supply", token.Address, amount, by, uint16(0))
	case "borrow":
		return one("borrow", token.Address, amount, big.NewInt(2), uint16(0), by)
	case "repay":
		return one("repay", token.Address, amount, big.NewInt(2), by)
	case "take":
		return one("withdraw", token.Address, amount, by)
	case "secure with", "not secure with":
		return one("setUserUseReserveAsCollateral", token.Address, s.do == "secure with")
	case "deposit":
		return one("deposit", amount, by)
	case "earn":
		return l.yield(amount)
	case "withdraw":
		return one("withdraw", amount, by, by)
	case "redeem":
		return one("redeem", a.shares(t, at, market, s), by, by)
	case "add":
		four := new(big.Int).Mul(amount, big.NewInt(4))
		return []act{{a.weth, "transfer", []any{market.Address, amount}},
			{a.dai, "transfer", []any{market.Address, four}}, {market, "mint", []any{by}}}
	case "swap":
		in, out0, out1 := token, big.NewInt(0), new(big.Int).Quo(amount, big.NewInt(2))
		if market.ask(t, at, by, "token1")[0].(common.Address) == in.Address {
			out0, out1 = out1, out0
		}
		return []act{{in, "transfer", []any{market.Address, amount}}, {market, "swap",
			[]any{out0, out1, by, []byte{}}}}
	case "give":
		return []act{{token, "transfer", []any{market.Address, amount}}}
	case "remove":
		shares := a.shares(t, at, market, s)
		return []act{{market, "transfer", []any{market.Address, shares}}, {market, "burn", []any{by}}}
	}
	t.Fatalf("unknown step %q", s.do)
	return nil
}

// units are the base units of a step's amount.
func (a *alike) units(t *testing.T, at block.Block, s alikeStep, token contract) *big.Int {
	t.Helper()
	switch s.amount {
	case "all", "half":
		return allOf
	case "":
		return nil
	}
	whole, ok := new(big.Rat).SetString(s.amount)
	if !ok {
		t.Fatalf("amount %q", s.amount)
	}
	decimals := token.ask(t, at, a.users[s.by], "decimals")[0].(uint8)
	unit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(decimals)), nil)
	if whole.Mul(whole, new(big.Rat).SetInt(unit)); !whole.IsInt() {
		t.Fatalf("amount %q has too many decimals", s.amount)
	}
	return whole.Num()
}

// shares are all or half of what the user of a step has of a market's own token.
func (a *alike) shares(t *testing.T, at block.Block, market contract, s alikeStep) *big.Int {
	t.Helper()
	shares := market.ask(t, at, a.users[s.by], "balanceOf", a.users[s.by])[0].(*big.Int)
	if s.amount == "half" {
		shares.Rsh(shares, 1)
	}
	return shares
}

// told is what the adapter reads of a lane, in words that don't tell the lanes apart.
func (a *alike) told(t *testing.T, at block.Block, l lane, holders []common.Address) string {
	t.Helper()
	var text strings.Builder
	for i, r := range a.read(t, at, l.market, holders...) {
		if r.Missing != "" {
			t.Errorf("%s lacks %s", l.market, r.Missing)
		}
		fmt.Fprintf(&text, "holder %d\n", i)
		for _, p := range r.Positions {
			if name, known := l.names[p.Receipt]; known {
				p.Receipt = name
			} else if p.Receipt != "" {
				t.Errorf("%s has the receipt %s", l.market, p.Receipt)
			}
			if !p.Ended {
				fmt.Fprintf(&text, " has %s of %s\n", p.Amount.Dec(), p.Asset)
			}
			fmt.Fprintf(&text, " %+v\n", p)
		}
		if r.Account != nil {
			fmt.Fprintf(&text, " %+v\n", *r.Account)
		}
	}
	return text.String()
}

// raw is the encoded answer to a call at the newest block.
func (c contract) raw(t *testing.T, method string, args ...any) (reply hexutil.Bytes) {
	t.Helper()
	data, err := c.Pack(method, args...)
	if err != nil {
		t.Fatal(err)
	}
	c.Call(t, &reply, "eth_call", map[string]any{"to": c.Address, "input": hexutil.Bytes(data)}, "latest")
	return reply
}
