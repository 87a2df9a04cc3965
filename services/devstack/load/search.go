package load

import "time"

// Search finds the highest rate that is served well: it doubles the rate until one isn't, and then halves the distance
// between the two until they are close. Rates are in calls per second.
type Search struct {
	good, bad float64
	next      float64
	// close is the ratio of bad to good at which the search ends.
	close float64
}

// NewSearch begins at a rate and ends when the rates that are known as good and as bad differ by a share at most: 0.05
// for 5 %.
func NewSearch(from, within float64) *Search { return &Search{next: from, close: 1 + within} }

// lowestRate is the one below which nothing is tried.
const lowestRate = 1

// Next is the rate to try; false when the search has ended.
func (s *Search) Next() (float64, bool) {
	switch {
	case s.bad > 0 && s.good > 0 && s.bad/s.good <= s.close, s.bad > 0 && s.next < lowestRate:
		return 0, false
	default:
		return s.next, true
	}
}

// Tell says whether the rate of Next was served well.
func (s *Search) Tell(well bool) {
	if well {
		s.good = s.next
	} else {
		s.bad = s.next
	}
	if s.bad == 0 {
		s.next = s.good * 2
	} else {
		s.next = (s.good + s.bad) / 2
	}
}

// Highest is the highest rate that was served well; 0 if none was.
func (s *Search) Highest() float64 { return s.good }

// Well reports whether everything was sent, nothing failed and 99 % of all calls took less than p99.
func (r *Result) Well(p99 time.Duration) bool {
	return r.NotSent == 0 && r.All.Failed == 0 && r.All.Sent > 0 && r.All.Quantile(0.99) < p99
}
