package gains

import (
	"math/big"

	"github.com/purserhq/purser/services/portfolio/internal/lots"
)

// legs makes the acquisitions and disposals of a transaction, whose fees were paid.
func (b *builder) legs(in, out, fees []leg) {
	cause := map[bool]Cause{true: Income, false: Sent}
	costs, costReason := valuesOf(in)
	proceeds, proceedsReason := valuesOf(out)
	if len(in) > 0 && len(out) > 0 {
		cause[true], cause[false] = Swap, Swap
		costs, proceeds, costReason, proceedsReason = swapped(costs, proceeds, costReason, proceedsReason)
	}
	fee, feeReason := total(fees)
	if len(fees) > 0 {
		switch {
		case len(out) > 0:
			proceeds, proceedsReason = withFee(proceeds, proceedsReason, fee, feeReason, -1)
		case len(in) > 0:
			incomes := costs
			costs, costReason = withFee(costs, costReason, fee, feeReason, 1)
			b.acquire(in, costs, incomes, costReason, cause[true])
			return
		}
	}
	b.acquire(in, costs, costs, costReason, cause[true])
	for i, l := range out {
		b.event(lots.Dispose, l.place, l.of, "d", l.quantity, Fact{Cause: cause[false],
			Reason: unknown(proceeds[i], l.reason, proceedsReason)}).Value = proceeds[i]
	}
}

func (b *builder) acquire(in []leg, costs, incomes []*big.Int, reason string, cause Cause) {
	for i, l := range in {
		f := Fact{Cause: cause, Reason: unknown(costs[i], l.reason, reason)}
		if cause == Income {
			f.income = incomes[i]
		}
		b.event(lots.Acquire, l.place, l.of, "a", l.quantity, f).Value = costs[i]
	}
}

// unknown is why a value isn't known; empty for one that is.
func unknown(value *big.Int, own, of string) string {
	switch {
	case value != nil:
		return ""
	case own != "":
		return own
	default:
		return of
	}
}

// valuesOf are those of legs, and why one isn't known.
func valuesOf(of []leg) (out []*big.Int, reason string) {
	for _, l := range of {
		out = append(out, l.value)
		if l.value == nil {
			reason = l.reason
		}
	}
	return out, reason
}

// total is the sum of the values of legs; nil when one isn't known.
func total(of []leg) (*big.Int, string) {
	all, reason := valuesOf(of)
	return sum(all), reason
}

// sum is nil when one of the values is.
func sum(of []*big.Int) *big.Int {
	out := new(big.Int)
	for _, v := range of {
		if v == nil {
			return nil
		}
		out.Add(out, v)
	}
	return out
}

// swapped gives both sides of a swap one value: what came is worth, or else what went.
func swapped(in, out []*big.Int, inReason, outReason string) (costs, proceeds []*big.Int, _, _ string) {
	if v := sum(in); v != nil {
		proceeds = divided(v, out)
		return in, proceeds, "", outReason
	}
	if v := sum(out); v != nil {
		return divided(v, in), out, inReason, ""
	}
	return make([]*big.Int, len(in)), make([]*big.Int, len(out)), inReason, outReason
}

// divided divides a value by weights, exactly; nil for all when a weight isn't known and there are several.
func divided(value *big.Int, weights []*big.Int) []*big.Int {
	out := make([]*big.Int, len(weights))
	if len(weights) == 1 {
		out[0] = value
		return out
	}
	all := sum(weights)
	if all == nil {
		return out
	}
	rest, left := new(big.Int).Set(value), new(big.Int).Set(all)
	for i, w := range weights {
		switch {
		case left.Sign() == 0: // all that follow weigh nothing: the first takes what is left
			out[i] = new(big.Int).Set(rest)
		default:
			out[i] = lots.Share(rest, w, left)
		}
		rest.Sub(rest, out[i])
		left.Sub(left, w)
	}
	return out
}

// withFee adds sign × fee to values, divided by them. Without a known fee none of them is known.
func withFee(values []*big.Int, reason string, fee *big.Int, feeReason string, sign int64) ([]*big.Int, string) {
	if fee == nil {
		return make([]*big.Int, len(values)), feeReason
	}
	parts := divided(fee, values)
	out := make([]*big.Int, len(values))
	for i, v := range values {
		if v != nil && parts[i] != nil {
			out[i] = new(big.Int).Add(v, new(big.Int).Mul(big.NewInt(sign), parts[i]))
		}
	}
	return out, reason
}
