package defi

import (
	"math/big"

	"github.com/cockroachdb/apd/v3"

	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// Worth is what positions are worth together.
type Worth struct {
	// Net is Assets less Liabilities. Claimable and Locked are parts of Assets.
	Assets, Liabilities, Net, Claimable, Locked *apd.Decimal
	// Positions is how many there are, Unpriced how many of them have no value, Unverified how many have one that
	// doesn't count.
	Positions, Unpriced, Unverified int
}

func newWorth() Worth {
	return Worth{Assets: zero(), Liabilities: zero(), Net: zero(), Claimable: zero(), Locked: zero()}
}

func zero() *apd.Decimal { return apd.New(0, -valuation.Scale) }

// units returns a value in units of its last decimal.
func units(d *apd.Decimal) *big.Int {
	n := d.Coeff.MathBigInt()
	if d.Negative {
		n.Neg(n)
	}
	return n
}

func ofUnits(n *big.Int, scale int32) *apd.Decimal {
	return apd.NewWithBigInt(new(apd.BigInt).SetMathBigInt(n), -scale)
}

// plus returns a + b, exactly: both have valuation.Scale decimals, and any number of digits.
func plus(a, b *apd.Decimal) *apd.Decimal {
	n := units(a)
	return ofUnits(n.Add(n, units(b)), valuation.Scale)
}

func minus(a, b *apd.Decimal) *apd.Decimal {
	n := units(a)
	return ofUnits(n.Sub(n, units(b)), valuation.Scale)
}

func (w *Worth) add(p *Position) {
	w.Positions++
	switch {
	case p.Value == nil:
		w.Unpriced++
		return
	case !p.Counted():
		w.Unverified++
		return
	case p.Kind == valuation.Borrowed:
		w.Liabilities = plus(w.Liabilities, p.Value)
		w.Net = minus(w.Net, p.Value)
		return
	case p.Kind == valuation.Claimable:
		w.Claimable = plus(w.Claimable, p.Value)
	case p.Kind == valuation.Locked:
		w.Locked = plus(w.Locked, p.Value)
	}
	w.Assets = plus(w.Assets, p.Value)
	w.Net = plus(w.Net, p.Value)
}

func (w *Worth) join(other Worth) {
	w.Assets, w.Liabilities = plus(w.Assets, other.Assets), plus(w.Liabilities, other.Liabilities)
	w.Net = plus(w.Net, other.Net)
	w.Claimable, w.Locked = plus(w.Claimable, other.Claimable), plus(w.Locked, other.Locked)
	w.Positions += other.Positions
	w.Unpriced += other.Unpriced
	w.Unverified += other.Unverified
}
