package defi

import (
	"cmp"
	"math/big"
	"slices"

	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// Distance is how far the price of one token alone may move until the health of an account is 1, as a fraction of its
// present price. All other prices, the amounts and the thresholds stay.
type Distance struct {
	TokenID, Symbol  string
	Collateral, Debt bool
	Fall, Rise       Figure
}

// asset is a token that is collateral of an account, or owed by it.
type asset struct {
	Distance
	// secured is the maximum share of the debt that the token can secure; if exactly, the share that it does secure.
	// owed and maxOwed are the minimum and the maximum share of the debt that can be owed in it, equal if known. All
	// are fractions of the debt.
	secured       *big.Rat
	exactly       bool
	owed, maxOwed *big.Rat
}

// Distances returns how far the prices of all the collateral may fall together, and how far that of each token may
// move, by token id; nothing of these where that can't be told.
//
// With everything in parts of the debt, the health is Σ(secured) before a move and 1 = Σ(owed). When the price of a
// token moves by the fraction x, what it secures and what is owed of it grow by x times themselves. So the health is 1
// at x = -(health - 1) / (secured - owed). Of a single collateral secured is the health. Of several only their sum is
// known, but each secures at most all of that, and at most its value. What is owed of one of several tokens is told by
// their values. Where the market values the collateral higher than the portfolio does, so is each of them.
func (a *Account) Distances() (all Figure, each []Distance) {
	switch {
	case a.Health.Value == nil:
		return unavailable(a.Health.Unavailable), nil
	case !a.Complete:
		return unavailable(ReasonMarketIncomplete), nil
	case a.Liquidatable:
		return unavailable(ReasonLiquidatable), nil
	}
	health := a.health()
	spare := new(big.Rat).Sub(health, big.NewRat(1, 1))
	assets := a.assets(health)
	owedToo, atLeast, collaterals := new(big.Rat), false, 0
	for i := range assets {
		t := &assets[i]
		t.Fall, t.Rise = unavailable(ReasonNever), unavailable(ReasonNever)
		if t.Collateral {
			collaterals++
			owedToo.Add(owedToo, t.owed)
			atLeast = atLeast || t.owed.Cmp(t.maxOwed) != 0
			t.Fall = fall(spare, new(big.Rat).Sub(t.secured, t.owed), !t.exactly || t.owed.Cmp(t.maxOwed) != 0)
		}
		if t.Debt && (!t.Collateral || !t.exactly) { // a single collateral secures more than can be owed of it
			t.Rise = rise(spare, t.maxOwed, t.Collateral || t.owed.Cmp(t.maxOwed) != 0)
		}
		each = append(each, t.Distance)
	}
	if collaterals == 0 {
		return unavailable(ReasonNoCollateral), each
	}
	return fall(spare, owedToo.Sub(health, owedToo), atLeast), each
}

// fall returns how far a price may fall: spare / exposed, of which exposed may be the most that it can be.
func fall(spare, exposed *big.Rat, atLeast bool) Figure {
	if exposed.Sign() <= 0 || spare.Cmp(exposed) >= 0 {
		return unavailable(ReasonNever)
	}
	return Figure{Value: down(new(big.Rat).Quo(spare, exposed), RatioScale), AtLeast: atLeast}
}

// rise returns how far the price of a debt may rise.
func rise(spare, owed *big.Rat, atLeast bool) Figure {
	if owed.Sign() <= 0 {
		return unavailable(ReasonNever)
	}
	return Figure{Value: down(new(big.Rat).Quo(spare, owed), RatioScale), AtLeast: atLeast}
}

// held is a token with the values of what is collateral and owed of it; nil while one is missing.
type held struct {
	asset
	collateral, debt *big.Rat
}

// assets returns the tokens of an account with its health, by token id.
func (a *Account) assets(health *big.Rat) []asset {
	byToken := map[string]*held{}
	for i := range a.Positions {
		p := &a.Positions[i]
		isDebt := p.Kind == valuation.Borrowed
		if !isDebt && !p.Collateral {
			continue
		}
		t := byToken[p.TokenID]
		if t == nil {
			t = &held{asset: asset{Distance: Distance{TokenID: p.TokenID, Symbol: p.Symbol}},
				collateral: new(big.Rat), debt: new(big.Rat)}
			byToken[p.TokenID] = t
		}
		if isDebt {
			t.Debt, t.debt = true, withValue(t.debt, p)
		} else {
			t.Collateral, t.collateral = true, withValue(t.collateral, p)
		}
	}
	collaterals, debts, inAll := 0, 0, new(big.Rat)
	for _, t := range byToken {
		if t.Debt {
			debts++
		}
		if t.Collateral {
			collaterals++
			if inAll != nil && t.collateral != nil {
				inAll.Add(inAll, t.collateral)
			} else {
				inAll = nil
			}
		}
	}
	owed := ratOf(a.DebtValue)
	if owed != nil && owed.Sign() == 0 {
		owed = nil
	}
	scale := a.scale(inAll, owed)
	out := make([]asset, 0, len(byToken))
	for _, t := range byToken {
		t.setSecured(health, collaterals, owed, scale)
		t.setOwed(debts, owed)
		out = append(out, t.asset)
	}
	slices.SortFunc(out, func(x, y asset) int { return cmp.Compare(x.TokenID, y.TokenID) })
	return out
}

// withValue adds the value of a position; nil without one that counts.
func withValue(sum *big.Rat, p *Position) *big.Rat {
	if sum == nil || !p.Counted() {
		return nil
	}
	return sum.Add(sum, ratOf(p.Value))
}

// scale is by how much the market values the collateral higher, beside the debt, than the portfolio does; at least 1.
func (a *Account) scale(collateral, owed *big.Rat) *big.Rat {
	one := big.NewRat(1, 1)
	if collateral == nil || collateral.Sign() == 0 || owed == nil || a.Lending.Debt.Sign() == 0 {
		return one
	}
	scale := new(big.Rat).SetFrac(a.Lending.Collateral, a.Lending.Debt)
	scale.Mul(scale, owed).Quo(scale, collateral)
	if scale.Cmp(one) < 0 { // some of it secures nothing, or the market values it lower
		return one
	}
	return scale
}

// setSecured sets the most that the token can secure: its value, and no more than all of the collateral does.
func (t *held) setSecured(health *big.Rat, collaterals int, owed, scale *big.Rat) {
	t.secured, t.exactly = health, collaterals == 1
	if t.exactly || t.collateral == nil || owed == nil {
		return
	}
	value := new(big.Rat).Quo(t.collateral, owed)
	if value.Mul(value, scale); value.Cmp(health) < 0 {
		t.secured = value
	}
}

// setOwed sets which part of the debt the token is.
func (t *held) setOwed(debts int, owed *big.Rat) {
	switch {
	case !t.Debt:
		t.owed, t.maxOwed = new(big.Rat), new(big.Rat)
	case debts == 1:
		t.owed, t.maxOwed = big.NewRat(1, 1), big.NewRat(1, 1)
	case owed == nil:
		t.owed, t.maxOwed = new(big.Rat), big.NewRat(1, 1)
	default:
		t.owed = new(big.Rat).Quo(t.debt, owed)
		t.maxOwed = t.owed
	}
}
