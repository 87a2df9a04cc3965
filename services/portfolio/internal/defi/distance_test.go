package defi_test

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/purserhq/purser/services/portfolio/internal/defi"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// market is a lending market in which each collateral has a threshold of its own. What it tells of an account is that
// of Aave: the average of the thresholds, and the health.
type market struct {
	collateral, debt map[string]int64 // whole tokens
	threshold        map[string]int64 // in per cent
}

// worth of tokens at the present prices.
func worth(tokens map[string]int64) (sum int64) {
	for t, n := range tokens {
		price, _ := new(big.Int).SetString(prices[t], 10)
		sum += n * price.Int64()
	}
	return sum
}

// health after the prices of some tokens were multiplied by a factor; nil without a debt.
func (m market) health(factor *big.Rat, moved ...string) *big.Rat {
	price := func(token string) *big.Rat {
		p, _ := new(big.Rat).SetString(prices[token])
		for _, t := range moved {
			if t == token {
				p.Mul(p, factor)
			}
		}
		return p
	}
	secured, owed := new(big.Rat), new(big.Rat)
	for t, n := range m.collateral {
		secured.Add(secured, new(big.Rat).Mul(price(t), big.NewRat(n*m.threshold[t], 100)))
	}
	for t, n := range m.debt {
		owed.Add(owed, new(big.Rat).Mul(price(t), big.NewRat(n, 1)))
	}
	if owed.Sign() == 0 {
		return nil
	}
	return secured.Quo(secured, owed)
}

// account is what the market tells of it.
func (m market) account() valuation.Market {
	of := in("a", "aave-v3", "pool")
	for t, n := range m.collateral {
		of.Positions = append(of.Positions, secures(fmt.Sprint(n, " ", t)))
	}
	for t, n := range m.debt {
		of.Positions = append(of.Positions, owes(fmt.Sprint(n, " ", t)))
	}
	return account(of, worth(m.collateral), worth(m.debt), "0.8", m.health(nil).FloatString(18))
}

func randomMarket(r *rand.Rand) market {
	m := market{map[string]int64{}, map[string]int64{}, map[string]int64{}}
	// Of about equal worth.
	some := func(to map[string]int64, most int64) {
		for _, t := range []string{"ETH", "USDC", "DAI", "BTC"} {
			if r.IntN(2) == 0 {
				to[t] = 1 + r.Int64N(most)*map[string]int64{"ETH": 30, "USDC": 60_000, "DAI": 60_000, "BTC": 1}[t]
			}
		}
	}
	some(m.collateral, 5)
	some(m.debt, 3)
	for t := range m.collateral {
		m.threshold[t] = r.Int64N(101) // of 0 too: switched on as collateral, and securing nothing
	}
	return m
}

// The oracle is the market itself, with prices moved as far as was told. A figure that is exact brings the health to
// 1, as near as its decimals tell; of a lower bound, and of NEVER, the health stays at 1 or more.
func TestNoPriceMovesFurtherThanWasTold(t *testing.T) {
	one := big.NewRat(1, 1)
	exact, bounds, nevers := 0, 0, 0
	for seed := range uint64(3000) {
		m := randomMarket(rand.New(rand.NewPCG(seed, 2)))
		if h := m.health(nil); h == nil || h.Cmp(one) < 0 {
			continue
		}
		a := valuedAccounts(t, m.account())[0]
		all, each := a.Distances()
		check := func(what string, f defi.Figure, sign int64, tokens ...string) {
			factor := new(big.Rat) // of NEVER: nothing is left of the price, or a million times
			if sign > 0 {
				factor.SetInt64(1_000_000)
			}
			if f.Value != nil {
				factor.Add(one, new(big.Rat).Mul(big.NewRat(sign, 1), rat(t, f.Value)))
			}
			after := m.health(factor, tokens...)
			switch {
			case after == nil: // all of the debt is worth nothing
			case after.Cmp(big.NewRat(999_999_999_999, 1_000_000_000_000)) < 0: // 18 decimals of the health were told
				t.Fatalf("seed %d: %s of %v by %s: the health is %s then; %+v", seed, what, tokens, text(f),
					after.FloatString(15), m)
			case f.Value != nil && !f.AtLeast && after.Cmp(big.NewRat(1_000_001, 1_000_000)) > 0:
				t.Fatalf("seed %d: %s of %v by %s: the health is %s then, not 1; %+v", seed, what, tokens, text(f),
					after.FloatString(15), m)
			}
			switch {
			case f.Value == nil:
				nevers++
			case f.AtLeast:
				bounds++
			default:
				exact++
			}
		}
		var collaterals []string
		for token := range m.collateral {
			collaterals = append(collaterals, token)
		}
		check("a fall of all", all, -1, collaterals...)
		for _, d := range each {
			check("a fall", d.Fall, -1, d.Symbol)
			check("a rise", d.Rise, 1, d.Symbol)
		}
	}
	if exact < 500 || bounds < 500 || nevers < 500 {
		t.Errorf("only %d exact figures, %d bounds and %d of never were tried", exact, bounds, nevers)
	}
}

// The control: a guess that takes the average threshold for each collateral's own is refuted by the same market.
func TestTheAverageThresholdOfEachCollateralWouldBeWrong(t *testing.T) {
	m := market{collateral: map[string]int64{"ETH": 5, "USDC": 10_000}, debt: map[string]int64{"DAI": 10_000},
		threshold: map[string]int64{"ETH": 90, "USDC": 50}}
	// The average is 0.7: so 5 ETH would secure 7,000, and a fall by 4,000 / 7,000 would be safe. They secure 9,000.
	guess := big.NewRat(3, 7)
	if h := m.health(guess, "ETH"); h.Cmp(big.NewRat(1, 1)) >= 0 {
		t.Fatalf("after the guess the health is %s", h.FloatString(6))
	}
	a := valuedAccounts(t, m.account())[0]
	_, each := a.Distances()
	told := new(big.Rat).Sub(big.NewRat(1, 1), rat(t, each[1].Fall.Value))
	if each[1].Symbol != "ETH" || !each[1].Fall.AtLeast || m.health(told, "ETH").Cmp(big.NewRat(1, 1)) < 0 {
		t.Errorf("told of ETH is %s", text(each[1].Fall))
	}
}
