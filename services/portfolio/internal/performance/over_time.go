package performance

import (
	"time"

	"github.com/cockroachdb/apd/v3"
)

// Point is how far a portfolio has come at the end of an interval.
type Point struct {
	Start, End time.Time
	// Mark is when the last mark after Start and up to End is; zero if there is none.
	Mark time.Time
	// TimeWeighted is the return since the first mark.
	TimeWeighted Ratio
	// Drawdown is the fall from the highest growth of the marks so far, from -1 to 0.
	Drawdown Ratio
	// Benchmark is its return since the first mark; nil without one.
	Benchmark *Ratio
}

// OverTime returns the growth at the end of each interval (bounds[i], bounds[i+1]] that ends after the first mark.
// Marks are as in Input, with the last one within each interval. The last point that has a mark has the return that
// TimeWeighted has of all marks. prices has the benchmark's at the times of marks, nil where one isn't known; it is
// nil without a benchmark.
func OverTime(marks []Mark, bounds []time.Time, prices []*apd.Decimal) ([]Point, error) {
	if err := (Input{Marks: marks}).check(); err != nil {
		return nil, err
	}
	g, err := chain(marks)
	if err != nil {
		return nil, err
	}
	var points []Point
	peak, next := 0.0, 0 // of the marks before next
	for i := range len(bounds) - 1 {
		p := Point{Start: bounds[i], End: bounds[i+1]}
		if !p.End.After(marks[0].Time) {
			continue
		}
		last := -1
		for ; next < len(marks) && !marks[next].Time.After(p.End); next++ {
			if marks[next].Time.After(p.Start) {
				last = next
			}
			if next < len(g.index) {
				peak = max(peak, g.index[next].growth)
			}
		}
		if err := p.set(g, marks, last, peak, prices); err != nil {
			return nil, err
		}
		points = append(points, p)
	}
	return points, nil
}

// set sets the figures at a mark, -1 for none.
func (p *Point) set(g growth, marks []Mark, n int, peak float64,
	prices []*apd.Decimal) error {
	none := Ratio{Unavailable: ReasonNoSnapshots}
	p.TimeWeighted, p.Drawdown = none, none
	if prices != nil {
		p.Benchmark = &none
	}
	if n < 0 {
		return nil
	}
	p.Mark = marks[n].Time
	var a arithmetic
	if reason := g.unavailableAt(n, marks); reason != "" {
		p.TimeWeighted, p.Drawdown = Ratio{Unavailable: reason}, Ratio{Unavailable: reason}
	} else {
		p.TimeWeighted, p.Drawdown = a.period(g.index[n].exact), finite(g.index[n].growth/peak-1)
	}
	if a.err != nil || prices == nil {
		return a.err
	}
	c, err := compare(Return{}, &Reference{Start: prices[0], End: prices[n]})
	if err != nil {
		return err
	}
	p.Benchmark = &c.Return
	return nil
}

// unavailableAt says why there is no growth up to a mark; "" if there is.
func (g growth) unavailableAt(n int, marks []Mark) Reason {
	switch {
	case n >= len(g.index) && g.belowZero:
		return ReasonBelowZero
	case n >= len(g.index):
		return ReasonInconsistent
	case len(marks) < 2:
		return ReasonTooShort
	case n > 0 && g.index[n].measured == 0:
		return ReasonBelowEpsilon
	}
	return ""
}
