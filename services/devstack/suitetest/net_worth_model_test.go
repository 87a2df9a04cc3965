package suitetest

import (
	"math/big"
	"strings"

	"github.com/holiman/uint256"
)

// picture is what the services tell of the borrower at a block.
type picture struct {
	block                      uint64
	total, assets, liabilities *big.Rat
	// amounts are in base units, by "SUPPLIED WETH" and alike; prices are of a base unit, by symbol.
	amounts, prices map[string]*big.Rat
	lines           int64
	// receipts are how many tokens in the wallet stand for positions.
	receipts int
	// indexes are those by which the pool has supplies and debts grow, by the names of amounts.
	indexes map[string]*big.Rat
}

// borrowStep is what the borrower does: supply, withdraw, borrow or repay so much of an asset in base units.
type borrowStep struct {
	do, symbol string
	amount     *uint256.Int
}

// moves is which amount a step changes and by how much, of those that there are at its block.
func (x borrowStep) moves(amounts map[string]*big.Rat) (name string, by *big.Rat) {
	name = map[string]string{"supply": "SUPPLIED ", "withdraw": "SUPPLIED ", "borrow": "BORROWED ",
		"repay": "BORROWED "}[x.do] + x.symbol
	by = new(big.Rat).SetInt(x.amount.ToBig())
	if x.do == "withdraw" || x.do == "repay" {
		if there := orZero(amounts[name]); by.Cmp(there) > 0 {
			by.Set(there)
		}
		by.Neg(by)
	}
	return name, by
}

// untouched is what the amounts of a picture would be at a later one without the step, by exact numbers: fees are paid
// and interest is added.
func (p picture) untouched(later picture, fees *big.Rat) map[string]*big.Rat {
	amounts := map[string]*big.Rat{}
	for name, amount := range p.amounts {
		amounts[name] = amount
		if index := p.indexes[name]; index != nil {
			grown := new(big.Rat).Mul(amount, later.indexes[name])
			amounts[name] = grown.Quo(grown, index)
		}
	}
	amounts["WALLET ETH"] = new(big.Rat).Sub(amounts["WALLET ETH"], fees)
	return amounts
}

// sums are those of values; lent is a part of owned.
type sums struct{ owned, owed, lent *big.Rat }

func (p picture) sums(amounts map[string]*big.Rat) sums {
	s := sums{new(big.Rat), new(big.Rat), new(big.Rat)}
	for name, amount := range amounts {
		kind, symbol, _ := strings.Cut(name, " ")
		if amount.Sign() == 0 {
			continue
		}
		value := new(big.Rat).Mul(amount, p.prices[symbol])
		if kind == "BORROWED" {
			s.owed.Add(s.owed, value)
			continue
		}
		s.owned.Add(s.owned, value)
		if kind == "SUPPLIED" {
			s.lent.Add(s.lent, value)
		}
	}
	return s
}

// offBy is how many base units an amount may be off after a step. The pool has amounts in parts of an index, and
// rounds to the nearest: what was told before and what is told after are each off by half a unit, and the parts that
// are moved by half an index, which is below 2 here.
const offBy = 2

// bound is how far sums of values may be off: by offBy base units of each supply and debt, and by half a unit of the
// eighth decimal of each value that is told, before and after.
func bound(before, after picture) *big.Rat {
	bound := new(big.Rat).SetFrac64(before.lines+after.lines, 200_000_000)
	for _, symbol := range lentAssets() {
		if price := after.prices[symbol]; price != nil {
			bound.Add(bound, new(big.Rat).Mul(price, big.NewRat(2*offBy, 1)))
		}
	}
	return bound
}

func off(a, b *big.Rat) *big.Rat {
	d := new(big.Rat).Sub(a, b)
	return d.Abs(d)
}

// checkStep compares net worth, liabilities and amounts after a step with those before it, at the prices of after. It
// returns whether two controls, which count wrongly, break the bound: twice has the tokens that the pool gives for
// supplies beside the supplies, unowed leaves out what is owed.
func (b *borrower) checkStep(before, after picture, x borrowStep, fees *big.Rat, ok bool) (twice, unowed bool) {
	b.t.Helper()
	amounts, bound := before.untouched(after, fees), bound(before, after)
	untouched := after.sums(amounts)
	net, step := new(big.Rat).Sub(untouched.owned, untouched.owed), b.done[len(b.done)-1]
	if off(after.total, net).Cmp(bound) > 0 {
		b.t.Errorf("after %s net worth is %s, want %s, at most %s off", step, after.total.FloatString(8),
			net.FloatString(8), bound.FloatString(8))
	}
	if ok {
		name, by := x.moves(amounts)
		amounts[name] = by.Add(by, orZero(amounts[name]))
	}
	for name := range after.indexes {
		told, want := orZero(after.amounts[name]), orZero(amounts[name])
		if off(told, want).Cmp(big.NewRat(offBy, 1)) > 0 {
			b.t.Errorf("after %s: %s is %s, want %s", step, name, told.FloatString(0), want.FloatString(3))
		}
	}
	if owed := after.sums(amounts).owed; off(after.liabilities, owed).Cmp(bound) > 0 {
		b.t.Errorf("after %s the liabilities are %s, want %s", step, after.liabilities.FloatString(8),
			owed.FloatString(8))
	}
	if off(after.total, new(big.Rat).Sub(after.assets, after.liabilities)).Sign() != 0 {
		b.t.Errorf("after %s the total %s isn't %s less %s", step, after.total.FloatString(8),
			after.assets.FloatString(8), after.liabilities.FloatString(8))
	}
	lent := after.sums(after.amounts).lent
	twice = off(lent.Add(lent, after.total), net.Add(net, untouched.lent)).Cmp(bound) > 0
	return twice, off(after.assets, untouched.owned).Cmp(bound) > 0
}
