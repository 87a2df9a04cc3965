//go:build !race

// The race detector allocates too: make allocations runs this without it.

package cache

import (
	"testing"

	"github.com/purserhq/purser/pkg/testkit"
)

// maxAllocations is what the client of Redis and the cache allocate together for a value that costs nothing to decode.
const maxAllocations = 19

func TestAHitAllocatesNoMoreThanItDid(t *testing.T) {
	s := testkit.Redis(t)
	c := open[string](t, s, Options{Codec: text{}})
	load := value("a value as long as many are")
	get(t, c, "k", load, "a value as long as many are")
	n := testing.AllocsPerRun(200, func() {
		if _, err := c.Get(t.Context(), "k", load); err != nil {
			t.Error(err)
		}
	})
	testkit.Figure(t, "a hit: %g allocations", n)
	if n > maxAllocations {
		t.Errorf("%g allocations, want %d at most", n, maxAllocations)
	}
}
