// Package versus benchmarks an operation beside the raw primitive that it is made
// of, in one run, so that their ratio is comparable between machines and runs.
//
// Promise: the two alternate after each operation, or after each Batch, so that
// what slows the machine down slows both. The times are means without the fastest
// and the slowest tenth.
//
// Limits: below a microsecond the cost of reading the clock counts; use a Batch of
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

// Comparison is what is compared, with goals that are reported beside the results.
type Comparison struct {
	// Goal is the maximum of the ratio of Ours' time to Raw's; 0 for none.
	Goal float64
	// GoalTime is the maximum time of one of Ours, on a machine that does nothing else; 0 for none.
	GoalTime time.Duration
	// P99Goal is the maximum of the ratio of the 99th percentiles, AllocsGoal of
	// the allocations of Ours; 0 for none.
	P99Goal, AllocsGoal float64
	// Raw and Ours do the operation once. With Workers they are called by as
	// many goroutines.
	Raw, Ours func()
	Workers   int // 1
	// Batch is the number of operations, over all workers, between two
	// alternations: 1, or 64 for each worker.
	Batch int
	// Slow is for an operation of a tenth of a second or more: its allocations are not
	// counted, which takes some hundred of them.
	Slow bool
}

const allocationRuns = 200

// Run reports the time of one operation as ns/op, the raw primitive's as
// raw-ns/op, and the ratio of the two beside its goal; p99-ratio is the ratio of the
// 99th percentiles, and allocs/op are those of Ours.
func Run(b *testing.B, c Comparison) {
	b.Helper()
	if c.Workers == 0 {
		c.Workers = 1
	}
	if c.Batch == 0 {
		c.Batch = 1
		if c.Workers > 1 {
			c.Batch = 64 * c.Workers
		}
	}
	for range min(b.N, 100) { // connections, scripts and caches
		c.Raw()
		c.Ours()
	}
	var raw, ours side
	b.ReportAllocs()
	b.ResetTimer()
	for left := b.N; left > 0; left -= c.Batch {
		n := min(left, c.Batch)
		if left/c.Batch%2 == 0 {
			raw.run(c.Raw, n, c.Workers)
			ours.run(c.Ours, n, c.Workers)
		} else {
			ours.run(c.Ours, n, c.Workers)
			raw.run(c.Raw, n, c.Workers)
		}
	}
	b.StopTimer()
	b.ReportMetric(trimmed(ours.batches), "ns/op")
	b.ReportMetric(trimmed(raw.batches), "raw-ns/op")
	b.ReportMetric(trimmed(ours.batches)/trimmed(raw.batches), "ratio")
	b.ReportMetric(p99(ours.each)/p99(raw.each), "p99-ratio")
	if !c.Slow {
		b.ReportMetric(allocations(c.Ours), "allocs/op")
	}
	for unit, goal := range map[string]float64{"goal": c.Goal, "goal-ns": float64(c.GoalTime),
		"p99-goal": c.P99Goal, "allocs-goal": c.AllocsGoal} {
		if goal > 0 {
			b.ReportMetric(goal, unit)
		}
	}
}

// side is the measurements of one of the two, in nanoseconds.
type side struct {
	batches []float64 // mean time of an operation, for each batch
	each    []float64 // time of each operation
}

func (s *side) run(op func(), n, workers int) {
	at := len(s.each)
	s.each = slices.Grow(s.each, n)[:at+n]
	took := s.each[at:]
	begin := time.Now()
	if workers == 1 {
		runPart(op, took)
	} else {
		var all sync.WaitGroup
		for part := range slices.Chunk(took, (n+workers-1)/workers) {
			all.Go(func() { runPart(op, part) })
		}
		all.Wait()
	}
	s.batches = append(s.batches, float64(time.Since(begin))/float64(n))
}

func runPart(op func(), took []float64) {
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
