package performance

import (
	"math"
	"slices"
)

// term is c·exp(-u·at) of a sum whose roots u are wanted. Times are from 0 to 1 and
// ascending, and no c is zero.
type term struct{ at, c float64 }

// Limits of the search for roots.
const (
	// narrowest is the width of an interval that is not divided any more, as a
	// difference of logarithms of growth.
	narrowest = 1e-8
	// closest is how far roots are apart at least: closer ones count as one.
	closest = 1e-6
	// touching is how small a sum is, beside the sum of its terms' magnitudes, that
	// touches zero without crossing it.
	touching = 1e-13
	// maxTerms is how many terms are computed at most.
	maxTerms = 20_000_000
)

// rootsOf returns all real roots of the sum of terms, ascending, and false if it can't
// tell how many there are. The first and the last term are at 0 and 1.
//
// It divides intervals until each has no root, as the bounds of the positive and the
// negative terms show, or is one in which the sum is monotone: so no root is missed or
// counted twice that is farther than closest from the next.
func rootsOf(terms []term) ([]float64, bool) {
	f := finder{left: maxTerms}
	up := f.notBelowZero(terms)
	reversed := make([]term, len(terms))
	for i, t := range terms {
		reversed[len(terms)-1-i] = term{at: 1 - t.at, c: t.c}
	}
	for _, u := range f.notBelowZero(reversed) {
		up = append(up, -u)
	}
	slices.Sort(up)
	var distinct []float64
	for first := 0; first < len(up); {
		next := first + 1
		for next < len(up) && up[next]-up[next-1] <= closest {
			next++
		}
		distinct = append(distinct, (up[first]+up[next-1])/2)
		first = next
	}
	return distinct, f.left >= 0
}

// finder looks for roots until it has computed too many terms.
type finder struct {
	left  int // terms that may still be computed
	roots []float64
}

// sums4 are those of the positive and of the negative terms at u, with the opposite
// of their derivatives. All are positive and fall with u.
type sums4 struct{ u, positive, negative, positiveSlope, negativeSlope float64 }

func (s sums4) total() float64 { return s.positive - s.negative }
func (s sums4) slope() float64 { return s.negativeSlope - s.positiveSlope }

func (f *finder) at(terms []term, u float64) sums4 {
	f.left -= len(terms)
	s := sums4{u: u}
	for _, t := range terms {
		x := t.c * math.Exp(-u*t.at)
		if x > 0 {
			s.positive += x
			s.positiveSlope += x * t.at
		} else {
			s.negative -= x
			s.negativeSlope -= x * t.at
		}
	}
	return s
}

// notBelowZero returns the roots u ≥ 0.
func (f *finder) notBelowZero(terms []term) []float64 {
	f.roots = nil
	low := f.at(terms, 0)
	for high := 1.0; !f.settled(terms, low.u); high *= 2 {
		to := f.at(terms, high)
		f.isolate(terms, low, to)
		if low = to; f.left < 0 {
			break
		}
	}
	return f.roots
}

// settled reports whether there is no root above u: the partial sums of the terms at u
// have one sign (Laguerre).
func (f *finder) settled(terms []term, u float64) bool {
	f.left -= len(terms)
	sum, sign := 0.0, math.Signbit(terms[0].c)
	for _, t := range terms {
		if sum += t.c * math.Exp(-u*t.at); math.Signbit(sum) != sign || sum == 0 {
			return false
		}
	}
	return true
}

// isolate adds the roots in [low, high].
func (f *finder) isolate(terms []term, low, high sums4) {
	// No root: one sign outweighs the other in all of the interval.
	if f.left < 0 || high.positive > low.negative || high.negative > low.positive {
		return
	}
	crosses := low.total() == 0 || high.total() == 0 || (low.total() < 0) != (high.total() < 0)
	middle := low.u + (high.u-low.u)/2
	switch {
	case high.positiveSlope > low.negativeSlope || high.negativeSlope > low.positiveSlope: // monotone
		if crosses {
			f.roots = append(f.roots, f.refine(terms, low, high))
		}
	case high.u-low.u <= narrowest:
		at := f.at(terms, middle)
		if crosses || math.Abs(at.total()) <= touching*(at.positive+at.negative) {
			f.roots = append(f.roots, middle)
		}
	default:
		at := f.at(terms, middle)
		f.isolate(terms, low, at)
		f.isolate(terms, at, high)
	}
}

// refine returns the root between two points of a monotone sum, by Newton's steps,
// and by halving where one would leave the interval or is too slow.
func (f *finder) refine(terms []term, low, high sums4) float64 {
	switch {
	case low.total() == 0:
		return low.u
	case high.total() == 0:
		return high.u
	}
	rising := high.total() > 0
	a, b := low.u, high.u
	u := a + (b-a)/2
	for range 200 {
		at := f.at(terms, u)
		if at.total() == 0 {
			return u
		}
		if (at.total() > 0) == rising {
			b = u
		} else {
			a = u
		}
		next := u - at.total()/at.slope()
		if next <= a || next >= b || math.IsNaN(next) {
			next = a + (b-a)/2
		}
		if math.Abs(next-u) <= 1e-15*math.Max(1, math.Abs(u)) || b-a <= 1e-15*math.Max(1, math.Abs(u)) {
			return next
		}
		u = next
	}
	return u
}
