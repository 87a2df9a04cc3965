package defi

import (
	"context"
	"time"

	"github.com/cockroachdb/apd/v3"

	"github.com/purserhq/purser/pkg/deadline"
	"github.com/purserhq/purser/services/portfolio/internal/decimal"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// Reasons why a figure of the past is unavailable.
const (
	ReasonNoIndex         = "NO_INDEX"
	ReasonNotHeldThen     = "NOT_HELD_THEN"
	ReasonPastUnavailable = "PAST_UNAVAILABLE"
)

const (
	// Past yields cover pastYieldWindow, and need at least minPastYieldWindow.
	pastYieldWindow, minPastYieldWindow = 30 * 24 * time.Hour, 24 * time.Hour
	// pastBudget is how long the past may take to be read, and pastShare the fraction of the caller's time for it.
	pastBudget, pastShare = 6 * time.Second, 0.6
	// maxPastGrowth is the largest growth within pastYieldWindow of which a yield is made.
	maxPastGrowth = 2
)

// positionKey names a position.
type positionKey struct {
	wallet, protocol, market, mode, token string
	kind                                  valuation.PositionKind
}

func keyOf(m *valuation.Market, p *valuation.ProtocolPosition) positionKey {
	return positionKey{m.WalletID, m.Protocol, m.ID, p.RateMode, p.TokenID, p.Kind}
}

// AddPastYields sets what positions yielded and cost in the 30 days before now, from the growth indexes of their
// markets. Without the past it says so.
func (s *Service) AddPastYields(ctx context.Context, p portfolio.Portfolio, state *State) {
	var past []valuation.Market
	var err error
	if state.hasIndex() {
		limited, cancel := deadline.Share(ctx, pastShare, pastBudget)
		past, err = s.reader.PastMarkets(limited, p.Owner, state.At.Add(-pastYieldWindow).Truncate(time.Hour))
		cancel()
	}
	state.setPastYields(past, err)
}

func (s *State) hasIndex() bool {
	for i := range s.Markets {
		for j := range s.Markets[i].Positions {
			if s.Markets[i].Positions[j].GrowthIndex != "" {
				return true
			}
		}
	}
	return false
}

// setPastYields sets the yields since then, whose positions were not read with an err.
func (s *State) setPastYields(then []valuation.Market, err error) {
	was := map[positionKey]*valuation.ProtocolPosition{}
	for i := range then {
		for j := range then[i].Positions {
			p := &then[i].Positions[j]
			was[keyOf(&then[i], p)] = p
		}
	}
	s.PastEarning, s.PastBorrowing = Yield{Value: zero()}, Yield{Value: zero()}
	for i := range s.Markets {
		m := &s.Markets[i]
		for j := range m.Positions {
			p := &m.Positions[j]
			switch before := was[keyOf(&m.Market, &p.ProtocolPosition)]; {
			case p.GrowthIndex == "":
				p.PastAPY = unavailable(ReasonNoIndex)
			case err != nil:
				p.PastAPY = unavailable(ReasonPastUnavailable)
			case before == nil || before.GrowthIndex == "":
				p.PastAPY = unavailable(ReasonNotHeldThen)
			default:
				p.PastAPY = growthYield(before.GrowthIndex, p.GrowthIndex, p.BlockTime.Sub(before.BlockTime))
			}
			switch {
			case p.PastAPY.Value == nil || !p.Counted():
			case p.Kind == valuation.Borrowed:
				s.PastBorrowing.add(p.PastAPY.Value, p.Value)
			default:
				s.PastEarning.add(p.PastAPY.Value, p.Value)
			}
		}
	}
	s.PastEarning.finish()
	s.PastBorrowing.finish()
}

// growthYield returns (is/was)^(year/elapsed) - 1, rounded half to even to RatioScale decimals.
func growthYield(was, is string, elapsed time.Duration) Figure {
	before, now := plainDecimal(was), plainDecimal(is)
	switch {
	case before == nil || now == nil || before.IsZero():
		return unavailable(ReasonRateInvalid)
	case elapsed < minPastYieldWindow:
		return unavailable(ReasonNotHeldThen)
	}
	ctx := decimal.Context(60)
	growth, years := new(apd.Decimal), new(apd.Decimal)
	ed := apd.MakeErrDecimal(ctx)
	ed.Quo(growth, now, before)
	if growth.Cmp(apd.New(maxPastGrowth, 0)) > 0 {
		return unavailable(ReasonRateOutOfRange)
	}
	ed.Quo(years, apd.New(secondsPerYear, 0), apd.New(int64(elapsed/time.Second), 0))
	ed.Pow(growth, growth, years)
	ed.Sub(growth, growth, apd.New(1, 0))
	ed.Quantize(growth, growth, -RatioScale)
	if ed.Err() != nil {
		return unavailable(ReasonRateOutOfRange)
	}
	return Figure{Value: growth}
}
