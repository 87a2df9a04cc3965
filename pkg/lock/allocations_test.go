//go:build !race

// The race detector allocates too: make allocations runs this without it.

package lock

import (
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/testkit"
)

// What the client of Redis and the locker allocate together to take a lock and give it back, at most.
const mostUnfenced, mostFenced = 36, 47

func TestALockAllocatesNoMoreThanItDid(t *testing.T) {
	for name, tc := range map[string]struct {
		o     Options
		limit float64
	}{"unfenced": {Options{Unfenced: true}, mostUnfenced}, "fenced": {Options{}, mostFenced}} {
		t.Run(name, func(t *testing.T) {
			l := locker(t, testkit.Redis(t), tc.o)
			n := testing.AllocsPerRun(200, func() {
				g, err := l.Try(t.Context(), "ours", time.Minute)
				if err != nil {
					t.Error(err)
					return
				}
				if err := g.Release(); err != nil {
					t.Error(err)
				}
			})
			testkit.Figure(t, "%s: %g allocations", name, n)
			if n > tc.limit {
				t.Errorf("%g allocations, want %g at most", n, tc.limit)
			}
		})
	}
}
