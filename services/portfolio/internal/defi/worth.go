package defi

import (
	"cmp"
	"math/big"
	"slices"

	"github.com/cockroachdb/apd/v3"

	"github.com/purserhq/purser/services/portfolio/internal/allocation"
	"github.com/purserhq/purser/services/portfolio/internal/decimal"
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

// Yield is the average of the yields of positions, weighted by their values.
type Yield struct {
	APY Figure
	// Value of the positions that have a yield.
	Value *apd.Decimal
	sum   big.Int // of yield times value
}

func (y *Yield) add(apy, value *apd.Decimal) {
	y.Value = plus(y.Value, value)
	y.sum.Add(&y.sum, new(big.Int).Mul(units(apy), units(value)))
}

func (y *Yield) finish() {
	if y.Value.IsZero() {
		y.APY = unavailable(ReasonNoRate)
		return
	}
	average := decimal.HalfEven(new(big.Int).Abs(&y.sum), units(y.Value))
	if y.sum.Sign() < 0 {
		average.Neg(average)
	}
	y.APY = Figure{Value: ofUnits(average, RatioScale)}
}

// sumYields sets what the positions yield and cost.
func (s *State) sumYields() {
	s.Earning, s.Borrowing = Yield{Value: zero()}, Yield{Value: zero()}
	for i := range s.Markets {
		for j := range s.Markets[i].Positions {
			p := &s.Markets[i].Positions[j]
			switch {
			case p.APY.Value == nil:
				if p.APY.Unavailable != ReasonNoRate {
					s.BadRates++
				}
			case !p.Counted():
			case p.Kind == valuation.Borrowed:
				s.Borrowing.add(p.APY.Value, p.Value)
			default:
				s.Earning.add(p.APY.Value, p.Value)
			}
		}
	}
	s.Earning.finish()
	s.Borrowing.finish()
}

// ProtocolWorth is what the positions in a protocol are worth.
type ProtocolWorth struct {
	Protocol string
	Worth    Worth
	// Share is the sum of those of its markets.
	Share   *apd.Decimal
	Lowest  Lowest
	Markets []MarketWorth // by market
}

// MarketWorth is what the positions of all wallets in a market are worth.
type MarketWorth struct {
	Market string
	Worth  Worth
	// Share of all assets. The shares of all markets sum to exactly 1; nil without assets.
	Share  *apd.Decimal
	Lowest Lowest
	// Wallets is how many have something in it, or may, Incomplete of how many of them something is missing.
	Wallets, Incomplete int
}

// Breakdown divides what a portfolio has by protocol and market.
func (s *State) Breakdown() []ProtocolWorth {
	var out []ProtocolWorth
	var assets []*apd.Decimal
	for i := range s.Markets {
		m := &s.Markets[i]
		if len(out) == 0 || out[len(out)-1].Protocol != m.Protocol {
			out = append(out, ProtocolWorth{Protocol: m.Protocol, Worth: newWorth()})
		}
		p := &out[len(out)-1]
		if n := len(p.Markets); n == 0 || p.Markets[n-1].Market != m.ID {
			p.Markets = append(p.Markets, MarketWorth{Market: m.ID, Worth: newWorth()})
		}
		of := &p.Markets[len(p.Markets)-1]
		of.Wallets++
		if !m.Complete {
			of.Incomplete++
		}
		of.Worth.join(m.Worth)
		p.Worth.join(m.Worth)
		if account, ok := s.account(m); ok {
			of.Lowest.add(&account)
			p.Lowest.add(&account)
		}
	}
	for i := range out {
		out[i].Lowest.finish()
		for j := range out[i].Markets {
			out[i].Markets[j].Lowest.finish()
			assets = append(assets, out[i].Markets[j].Worth.Assets)
		}
	}
	setShares(out, allocation.Shares(assets))
	return out
}

// setShares sets the shares of markets, in their order, and their sums; none without assets.
func setShares(out []ProtocolWorth, shares []*apd.Decimal) {
	if len(shares) == 0 {
		return
	}
	for i := range out {
		sum := new(big.Int)
		for j := range out[i].Markets {
			out[i].Markets[j].Share = shares[0]
			sum.Add(sum, units(shares[0]))
			shares = shares[1:]
		}
		out[i].Share = ofUnits(sum, allocation.ShareScale)
	}
}

// Page returns the elements of a list, which is in the order of their keys, after a key: at most limit.
func Page[T any](list []T, key func(*T) Key, after Key, limit int) []T {
	first, _ := slices.BinarySearchFunc(list, after, func(e T, after Key) int {
		return cmp.Or(key(&e).Compare(after), -1) // after the key itself
	})
	return list[first:min(len(list), first+limit)]
}
