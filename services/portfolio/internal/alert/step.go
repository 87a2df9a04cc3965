package alert

import (
	"math/big"
	"time"

	"github.com/cockroachdb/apd/v3"
)

// MinInterval is the least time between two firings of a rule. One that is due earlier fires then, if it is still due.
const MinInterval = time.Minute

// Observation is what was seen of a rule's figure.
type Observation struct {
	// Figure is nil when it isn't known. For Transfer it is the amount now, in base units.
	Figure *apd.Decimal
	// UpperBound: the true figure may be lower.
	UpperBound bool
	// NotApplicable: there is nothing to measure, for example the health of a portfolio without debts.
	NotApplicable bool
	// Missing: what has an age, or a part of it, isn't there. Used by kinds WalletAge and PriceAge only.
	Missing bool
	// Membership is the number of the membership whose wallets Figure is of, and Decimals are the token's, 0 where
	// Figure is. Used by kind Transfer only.
	Membership int
	Decimals   uint8
}

// exact has the digits of every product of a limit, a hysteresis and a figure that Step makes.
func exact() *apd.Context { return apd.BaseContext.WithPrecision(200) }

// Step returns the state of a rule after a sight at a time, whether that is another one, and whether the rule fires.
// The state has the figure then.
func (r Rule) Step(seen Observation, now time.Time) (next State, changed, fires bool) {
	next = r.State
	if r.Kind == Transfer {
		return r.stepTransfer(seen, now)
	}
	if seen.Missing != !next.Base.MissingSince.IsZero() {
		next.Base.MissingSince, changed = time.Time{}, true
		if seen.Missing {
			next.Base.MissingSince = now
		}
	}
	figure := seen.Figure
	if seen.Missing {
		missing := seconds(now.Sub(next.Base.MissingSince))
		if figure == nil || figure.Cmp(missing) < 0 {
			figure = missing
		}
	}
	switch {
	case seen.NotApplicable:
		if next.Fired {
			next.Fired, next.Figure, changed = false, "", true
		}
	case figure == nil:
	case !next.Fired && r.beyond(figure):
		if !r.inCooldown(now) {
			next.Fired, next.Figure, next.FiredAt = true, figure.Text('f'), now
			return next, true, true
		}
	case next.Fired && !seen.UpperBound && r.back(figure):
		next.Fired, next.Figure, changed = false, figure.Text('f'), true
	}
	return next, changed, false
}

// inCooldown reports whether the last firing is less than MinInterval ago.
func (r Rule) inCooldown(now time.Time) bool {
	return !r.State.FiredAt.IsZero() && now.Sub(r.State.FiredAt) < MinInterval
}

// stepTransfer is Step of Transfer, whose state is never fired.
func (r Rule) stepTransfer(seen Observation, now time.Time) (next State, changed, fires bool) {
	next = r.State
	if seen.Figure == nil {
		return next, false, false
	}
	amount := seen.Figure.Text('f')
	before, _, err := apd.NewFromString(next.Base.Amount)
	if err != nil || next.Base.Membership != seen.Membership {
		// The first evaluation, or other wallets: what those have is no transfer.
		next.Base = Base{Amount: amount, Membership: seen.Membership, Decimals: seen.Decimals}
		return next, true, false
	}
	decimals := seen.Decimals
	if seen.Figure.IsZero() {
		decimals = next.Base.Decimals
	}
	moved := new(apd.Decimal)
	if _, err := exact().Sub(moved, seen.Figure, before); err != nil || moved.IsZero() {
		return next, false, false
	}
	moved.Exponent -= int32(decimals)
	if r.beyond(moved) {
		if r.inCooldown(now) {
			return next, false, false // the base stays, so that it counts later
		}
		next.Figure, next.FiredAt, fires = moved.Text('f'), now, true
	}
	next.Base = Base{Amount: amount, Membership: seen.Membership, Decimals: decimals}
	return next, true, fires
}

// limit is what the figure is compared with.
func (r Rule) limit() *apd.Decimal {
	if r.Limit == nil {
		return seconds(r.Window)
	}
	return r.Limit
}

// beyond reports whether a figure has passed the limit.
func (r Rule) beyond(figure *apd.Decimal) bool {
	if r.Kind.below() {
		return figure.Cmp(r.limit()) < 0
	}
	return size(figure).Cmp(r.limit()) > 0
}

// back reports whether a figure is on the right side of the limit by the hysteresis.
func (r Rule) back(figure *apd.Decimal) bool {
	part, edge := new(apd.Decimal), new(apd.Decimal)
	_, err := exact().Mul(part, r.limit(), r.Hysteresis)
	if r.Kind.below() {
		_, addErr := exact().Add(edge, r.limit(), part)
		return err == nil && addErr == nil && figure.Cmp(edge) >= 0
	}
	_, subErr := exact().Sub(edge, r.limit(), part)
	return err == nil && subErr == nil && size(figure).Cmp(edge) <= 0
}

func size(d *apd.Decimal) *apd.Decimal { return new(apd.Decimal).Abs(d) }

// seconds returns whole seconds.
func seconds(d time.Duration) *apd.Decimal { return apd.New(int64(d/time.Second), 0) }

// units returns an amount of base units.
func units(n *big.Int) *apd.Decimal {
	return apd.NewWithBigInt(new(apd.BigInt).SetMathBigInt(n), 0)
}

// alert returns the alert of a rule whose Step fires with a state.
func (r Rule) alert(s State) Alert {
	return Alert{Owner: r.Owner, Rule: r.ID, RuleName: r.Name, Portfolio: r.Portfolio, Kind: r.Kind, Token: r.Token,
		Limit: r.Limit, Window: r.Window, Figure: s.Figure, FiredAt: s.FiredAt}
}
