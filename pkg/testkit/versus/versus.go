// Package versus measures an operation beside the raw primitive that it is
// made of, in one run, so that the ratio means something on a machine whose
// speed changes from minute to minute.
//
// Promise: both are run in short turns, one after the other, so that what slows
// the machine down slows both; the figures are the medians over the turns and
// the median of the turns' ratios, which a few disturbed turns don't move.
//
// Limits: an operation of less than a microsecond needs a Turn in the thousands.
//
// Source: Georges et al., "Statistically Rigorous Java Performance Evaluation"
// (2007), for interleaving and medians.
package versus

import (
	"slices"
	"sync"
	"testing"
	"time"
)

// Comparison says what is compared and what it should come to.
type Comparison struct {
	// Goal is the greatest ratio of Ours' time to Raw's; 0 for none.
	Goal float64
	// Raw and Ours do the operation once. With Workers they are called by as
	// many goroutines.
	Raw, Ours func()
	Workers   int // 1
	Turn      int // operations of one turn, over all workers; 64
}

// Run reports the median time of one operation as ns/op, the raw primitive's as
// raw-ns/op, and the ratio of the two beside its goal. p99-ratio is that of the
// slowest hundredth. Allocations are those of Ours.
func Run(b *testing.B, c Comparison) {
	b.Helper()
	if c.Workers == 0 {
		c.Workers = 1
	}
	if c.Turn == 0 {
		c.Turn = 64
	}
	var raw, ours, ratios []float64
	var rawAll, oursAll []time.Duration
	b.ReportAllocs()
	b.StopTimer()
	b.ResetTimer()
	for left := b.N; left > 0; left -= c.Turn {
		n := min(left, c.Turn)
		r := turn(c.Raw, n, c.Workers, &rawAll)
		b.StartTimer()
		o := turn(c.Ours, n, c.Workers, &oursAll)
		b.StopTimer()
		raw, ours, ratios = append(raw, r), append(ours, o), append(ratios, o/r)
	}
	b.ReportMetric(median(ours), "ns/op")
	b.ReportMetric(median(raw), "raw-ns/op")
	b.ReportMetric(median(ratios), "ratio")
	b.ReportMetric(float64(p99(oursAll))/float64(p99(rawAll)), "p99-ratio")
	if c.Goal > 0 {
		b.ReportMetric(c.Goal, "goal")
	}
}

// turn does the operation n times and returns the nanoseconds that one took of
// the turn's, which with several workers is less than one's own time.
func turn(op func(), n, workers int, each *[]time.Duration) float64 {
	at := len(*each)
	*each = slices.Grow(*each, n)[:at+n]
	took := (*each)[at:]
	begin := time.Now()
	if workers == 1 {
		share(op, took)
		return float64(time.Since(begin)) / float64(n)
	}
	var all sync.WaitGroup
	for part := range slices.Chunk(took, (n+workers-1)/workers) {
		all.Go(func() { share(op, part) })
	}
	all.Wait()
	return float64(time.Since(begin)) / float64(n)
}

func share(op func(), took []time.Duration) {
	last := time.Now()
	for i := range took {
		op()
		now := time.Now()
		took[i], last = now.Sub(last), now
	}
}

func median(x []float64) float64 {
	slices.Sort(x)
	return x[len(x)/2]
}

func p99(x []time.Duration) time.Duration {
	slices.Sort(x)
	return max(x[len(x)*99/100], 1)
}
