package defi

import (
	"math/big"

	"github.com/cockroachdb/apd/v3"

	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// Reasons why a figure of an account is unavailable.
const (
	ReasonNoDebt           = "NO_DEBT"
	ReasonDebtTooSmall     = "DEBT_TOO_SMALL"
	ReasonNotTold          = "NOT_TOLD" // the protocol has no such figure
	ReasonUnknown          = "UNKNOWN"  // it could not be read
	ReasonMarketIncomplete = "MARKET_INCOMPLETE"
	ReasonDebtUnpriced     = "DEBT_UNPRICED"
	ReasonNoAccount        = "NO_ACCOUNT"
	ReasonLiquidatable     = "LIQUIDATABLE"
	ReasonNoCollateral     = "NO_COLLATERAL"
	ReasonNever            = "NEVER"
)

// Account is what a lending market says of all that a wallet has in it.
type Account struct {
	*Market
	// Health is as the protocol computes it.
	Health Figure
	// Liquidatable: Health is below 1.
	Liquidatable bool
	// Collateral and Debt are in the currency of the market; nil when that isn't known.
	Collateral, Debt *apd.Decimal
	// Threshold is nil for what is no decimal.
	Threshold *apd.Decimal
	// DebtValue is what is owed; nil when a debt has no value that counts, or may be missing.
	DebtValue *apd.Decimal
	// LeftOut is why it isn't in the aggregate; "" when it is.
	LeftOut string
}

// Key of the account, which is that of its market.
func (a *Account) Key() Key { return a.Market.Key() }

// health returns the health as a ratio; nil when it is unavailable.
func (a *Account) health() *big.Rat { return ratOf(a.Health.Value) }

func ratOf(d *apd.Decimal) *big.Rat {
	if d == nil {
		return nil
	}
	r := new(big.Rat).SetInt(units(d))
	if d.Exponent < 0 {
		scale := new(big.Int).Exp(big.NewInt(10), big.NewInt(-int64(d.Exponent)), nil)
		r.Quo(r, new(big.Rat).SetInt(scale))
	}
	return r
}

// down returns a ratio, not below 0, rounded down to a number of decimals.
func down(r *big.Rat, scale int32) *apd.Decimal {
	n := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil)
	n.Mul(n, r.Num())
	return ofUnits(n.Quo(n, r.Denom()), scale)
}

// Accounts returns the lending accounts, and the markets in which there may be one, by protocol, market and wallet.
func (s *State) Accounts() []Account {
	var out []Account
	for i := range s.Markets {
		if a, ok := s.account(&s.Markets[i]); ok {
			out = append(out, a)
		}
	}
	return out
}

// account returns the account in a market: false if there is none, nothing is owed and nothing is missing.
func (s *State) account(m *Market) (Account, bool) {
	a := Account{Market: m}
	owes := false
	debt, counts := zero(), true
	for i := range m.Positions {
		p := &m.Positions[i]
		if p.Kind != valuation.Borrowed && p.Kind != "" {
			continue
		}
		owes = true
		if counts = counts && p.Counted(); counts {
			debt = plus(debt, p.Value)
		}
	}
	if m.Lending == nil && !owes && m.Complete {
		return a, false
	}
	if m.Complete && counts {
		a.DebtValue = debt
	}
	if l := m.Lending; l != nil {
		a.Threshold = plainDecimal(l.Threshold)
		a.Collateral, a.Debt = inUnit(l.Collateral, l.Unit), inUnit(l.Debt, l.Unit)
	}
	a.Health = healthOf(m)
	a.Liquidatable = a.Health.Value != nil && a.Health.Value.Cmp(apd.New(1, 0)) < 0
	a.LeftOut = a.whyLeftOut()
	return a, true
}

// healthOf returns the health as it was told.
func healthOf(m *Market) Figure {
	switch l := m.Lending; {
	case l == nil && m.Complete:
		return unavailable(ReasonNotTold)
	case l == nil || l.Health == "" && !m.Complete: // what it says of debts may be of an earlier sync
		return unavailable(ReasonUnknown)
	case l.Health == "" && (l.HealthUnavailable == ReasonNoDebt || l.HealthUnavailable == ReasonDebtTooSmall):
		return unavailable(l.HealthUnavailable)
	default:
		health := plainDecimal(l.Health)
		if health == nil {
			return unavailable(ReasonUnknown)
		}
		// As what markets tell of a debt that they don't see, 2^256-1 of some unit: it is no number to compute with.
		if health.Cmp(apd.New(1, maxHealthDigits)) >= 0 {
			return unavailable(ReasonDebtTooSmall)
		}
		return Figure{Value: health}
	}
}

// A health factor of 10^maxHealthDigits or more means that the market can't see the debt.
const maxHealthDigits = 30

// whyLeftOut returns why the account isn't in the aggregate.
func (a *Account) whyLeftOut() string {
	switch {
	case a.Health.Value == nil:
		return a.Health.Unavailable
	case !a.Complete:
		return ReasonMarketIncomplete
	case a.DebtValue == nil || a.DebtValue.IsZero():
		return ReasonDebtUnpriced
	}
	return ""
}

// inUnit returns an amount of a market's units in its currency, exactly; nil when it can't be written as a decimal.
func inUnit(amount, unit *big.Int) *apd.Decimal {
	if unit == nil || unit.Sign() <= 0 || amount == nil {
		return nil
	}
	ratio := new(big.Rat).SetFrac(amount, unit)
	places, exact := ratio.FloatPrec()
	if !exact || places > maxDecimal {
		return nil
	}
	return down(ratio, int32(places))
}

// Lowest is the account with the lowest health.
type Lowest struct {
	Health Figure
	// Of is the account; nil when no health is known.
	Of *Account
	// Liquidatable is how many accounts can be liquidated. Unknown is how many may have a lower health: they tell none
	// and may owe something, or something is missing.
	Liquidatable, Unknown int
}

func (l *Lowest) add(a *Account) {
	if a.Liquidatable {
		l.Liquidatable++
	}
	if !a.Complete || a.Health.Unavailable == ReasonNotTold || a.Health.Unavailable == ReasonUnknown {
		l.Unknown++
	}
	switch {
	case a.Health.Value != nil && (l.Of == nil || a.Health.Value.Cmp(l.Of.Health.Value) < 0):
		l.Of = a
	case a.Health.Unavailable == ReasonDebtTooSmall && l.Of == nil:
		l.Health.Unavailable = ReasonDebtTooSmall
	}
}

// finish sets the health.
func (l *Lowest) finish() {
	switch {
	case l.Of != nil:
		l.Health = l.Of.Health
	case l.Unknown > 0:
		l.Health = unavailable(ReasonUnknown)
	case l.Health.Unavailable == "":
		l.Health = unavailable(ReasonNoDebt)
	}
}

// LowestOf returns the lowest health of accounts; of equal ones the first.
func LowestOf(accounts []Account) Lowest {
	var l Lowest
	for i := range accounts {
		l.add(&accounts[i])
	}
	l.finish()
	return l
}

// Aggregate is the health of accounts as if they were one.
type Aggregate struct {
	Health Figure
	// Secured is Σ(collateral × threshold), Debt Σ(debt), both in the currency of the answer.
	Secured, Debt *apd.Decimal
	// Accounts is how many are in it, LeftOut how many that may owe something are not.
	Accounts, LeftOut int
}

// AggregateOf joins accounts. The currency of a market is taken at the rate at which its debt is worth DebtValue; so
// the collateral times the threshold, which is the health times the debt, is worth the health times DebtValue.
func AggregateOf(accounts []Account) Aggregate {
	out := Aggregate{Debt: zero()}
	secured := new(big.Rat)
	for i := range accounts {
		a := &accounts[i]
		if a.LeftOut != "" {
			if a.LeftOut != ReasonNoDebt {
				out.LeftOut++
			}
			continue
		}
		out.Accounts++
		out.Debt = plus(out.Debt, a.DebtValue)
		secured.Add(secured, new(big.Rat).Mul(a.health(), ratOf(a.DebtValue)))
	}
	out.Secured = down(secured, valuation.Scale)
	if out.Accounts == 0 {
		out.Health = unavailable(ReasonNoAccount)
		return out
	}
	out.Health = Figure{Value: down(secured.Quo(secured, ratOf(out.Debt)), RatioScale)}
	return out
}
