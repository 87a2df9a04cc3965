package chain_test

import (
	"testing"
	"time"

	"github.com/purserhq/purser/services/devstack/chain"
)

// BenchmarkColdStart makes 90 days of hourly history.
func BenchmarkColdStart(b *testing.B) {
	for b.Loop() {
		c, err := chain.Start(b.Context(), chain.Options{Dir: b.TempDir(), Anchor: anchor(),
			Now: newClock(anchor()).Now})
		if err != nil {
			b.Fatal(err)
		}
		if err := c.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWarmStart opens 90 days of history and fills an hour.
func BenchmarkWarmStart(b *testing.B) {
	dir, now := b.TempDir(), newClock(anchor())
	open := func() {
		c, err := chain.Start(b.Context(), chain.Options{Dir: dir, Anchor: anchor(), Now: now.Now})
		if err != nil {
			b.Fatal(err)
		}
		if err := c.Close(); err != nil {
			b.Fatal(err)
		}
	}
	open()
	for b.Loop() {
		now.Advance(time.Hour)
		open()
	}
}
