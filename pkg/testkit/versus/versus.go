// Package versus measures an operation beside the raw primitive that it is
// made of, in one run, so that the ratio means something on a machine whose
// speed changes from minute to minute.
//
// Promise: the two take turns, an operation each unless there are several
// workers, so that what slows the machine down slows both. Figures are means
// without the fastest and the slowest tenth, which a disturbance doesn't move.
//
// Limits: below a microsecond the clock's own cost counts; give it a Turn of
// some hundred operations.
//
// Source: Georges et al., "Statistically Rigorous Java Performance Evaluation"
// (2007), for interleaving; Tukey, for the trimmed mean.
package versus

import (
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
)

// Comparison says what is compared and what it should come to.
type Comparison struct {
	// Goal is the greatest ratio of Ours' time to Raw's; 0 for none.
	Goal float64
	// P99Goal is the greatest ratio of the slowest hundredths, AllocsGoal the
	// most allocations of Ours; 0 for none.
	P99Goal, AllocsGoal float64
	// Raw and Ours do the operation once. With Workers they are called by as
	// many goroutines.
	Raw, Ours func()
	Workers   int // 1
	// Turn is how many operations one turn has, over all workers: 1, or 64
	// for each worker.
	Turn int
}

const allocationRuns = 200

// Run reports the time of one operation as ns/op, the raw primitive's as
// raw-ns/op, and the ratio of the two beside its goal; p99-ratio is that of the
// slowest hundredth, and allocs/op are those of Ours.
func Run(b *testing.B, c Comparison) {
	b.Helper()
	if c.Workers == 0 {
		c.Workers = 1
	}
	if c.Turn == 0 {
		c.Turn = 1
		if c.Workers > 1 {
			c.Turn = 64 * c.Workers
		}
	}
	for range min(b.N, 100) { // connections, scripts and caches
		c.Raw()
		c.Ours()
	}
	var raw, ours side
	b.ReportAllocs()
	b.ResetTimer()
	for left := b.N; left > 0; left -= c.Turn {
		n := min(left, c.Turn)
		if left/c.Turn%2 == 0 {
			raw.turn(c.Raw, n, c.Workers)
			ours.turn(c.Ours, n, c.Workers)
		} else {
			ours.turn(c.Ours, n, c.Workers)
			raw.turn(c.Raw, n, c.Workers)
		}
	}
	b.StopTimer()
	b.ReportMetric(trimmed(ours.turns), "ns/op")
	b.ReportMetric(trimmed(raw.turns), "raw-ns/op")
	b.ReportMetric(trimmed(ours.turns)/trimmed(raw.turns), "ratio")
	b.ReportMetric(p99(ours.each)/p99(raw.each), "p99-ratio")
	b.ReportMetric(allocations(c.Ours), "allocs/op")
	for unit, goal := range map[string]float64{"goal": c.Goal, "p99-goal": c.P99Goal, "allocs-goal": c.AllocsGoal} {
		if goal > 0 {
			b.ReportMetric(goal, unit)
		}
	}
}

// side is what was measured of one of the two, in nanoseconds.
type side struct {
	turns []float64 // for one operation, of each turn
	each  []float64 // of each operation
}

func (s *side) turn(op func(), n, workers int) {
	at := len(s.each)
	s.each = slices.Grow(s.each, n)[:at+n]
	took := s.each[at:]
	begin := time.Now()
	if workers == 1 {
		share(op, took)
	} else {
		var all sync.WaitGroup
		for part := range slices.Chunk(took, (n+workers-1)/workers) {
			all.Go(func() { share(op, part) })
		}
		all.Wait()
	}
	s.turns = append(s.turns, float64(time.Since(begin))/float64(n))
}

func share(op func(), took []float64) {
	last := time.Now()
	for i := range took {
		op()
		now := time.Now()
		took[i], last = float64(now.Sub(last)), now
	}
}

func trimmed(x []float64) float64 {
	slices.Sort(x)
	x = x[len(x)/10 : len(x)-len(x)/10]
	sum := 0.0
	for _, v := range x {
		sum += v
	}
	return sum / float64(len(x))
}

func p99(x []float64) float64 {
	slices.Sort(x)
	return max(x[len(x)*99/100], 1)
}

func allocations(op func()) float64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range allocationRuns {
		op()
	}
	runtime.ReadMemStats(&after)
	return float64((after.Mallocs - before.Mallocs) / allocationRuns)
}
