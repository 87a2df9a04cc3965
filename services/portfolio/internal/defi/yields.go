package defi

import (
	"math/big"

	"github.com/cockroachdb/apd/v3"

	"github.com/purserhq/purser/services/portfolio/internal/decimal"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

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
