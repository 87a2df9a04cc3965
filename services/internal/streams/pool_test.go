package streams

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

// small returns a pool of 100 streams.
func small(maxPerClient int) *Pool {
	return NewPool(100, maxPerClient)
}

// An attacker who has all the streams of a replica, from one address or from many, loses some to others, one by one,
// until everybody has the same.
func TestWhoeverHasAllStreamsLosesThemToOthers(t *testing.T) {
	for name, tc := range map[string]struct {
		perClient, addresses int
		share                int // of one other
	}{
		"one address without a bound of its own": {100, 1, 50},
		"ten addresses":                          {25, 10, 9},
		"one address, bounded":                   {25, 1, 25},
	} {
		t.Run(name, func(t *testing.T) {
			p := small(tc.perClient)
			var attack []context.Context
			for i := range 1000 { // as fast as it can
				if ctx, _, err := p.Begin(t.Context(), fmt.Sprintf("attacker %d", i%tc.addresses)); err == nil {
					attack = append(attack, ctx)
				}
			}
			naive := p.total >= p.max // the control: without taking turns nobody else would get one
			if naive != (tc.perClient*tc.addresses >= 100) {
				t.Fatalf("the attacker has %d", p.total)
			}
			got := 0
			for range tc.share {
				ctx, end, err := p.Begin(t.Context(), "other")
				if err != nil {
					t.Fatalf("after %d: %v", got, err)
				}
				if ctx.Err() != nil {
					t.Fatal("it has ended")
				}
				defer end()
				got++
			}
			for range 1000 { // it goes on
				_, _, _ = p.Begin(t.Context(), "attacker 0")
			}
			if open := len(p.byClient["other"]); open != tc.share {
				t.Errorf("the other keeps %d of %d", open, tc.share)
			}
			ended := 0
			for _, ctx := range attack {
				if errors.Is(context.Cause(ctx), ErrTaken) {
					ended++
				}
			}
			if naive && ended == 0 || !naive && ended > 0 || p.total > p.max {
				t.Errorf("%d streams of the attacker ended, %d are open in all", ended, p.total)
			}
		})
	}
}

// A /48 has 65,536 blocks by which a client is counted, and many providers give one to each customer. One stream from
// each block must deny nobody, and take nothing from who has two.
func TestManyBlocksOfOneNetworkAreOneNetwork(t *testing.T) {
	for name, attacker := range map[string]func(i int) string{
		"IPv6": func(i int) string { return fmt.Sprintf("2001:db8:1:%x::/64", i) },
		"IPv4": func(i int) string { return fmt.Sprintf("192.0.2.%d", i%256) },
	} {
		t.Run(name, func(t *testing.T) {
			p := small(25)
			var kept []context.Context
			for range 2 {
				ctx, _, err := p.Begin(t.Context(), "2001:db8:2::/64")
				if err != nil {
					t.Fatal(err)
				}
				kept = append(kept, ctx)
			}
			for i := range 1000 {
				_, _, _ = p.Begin(t.Context(), attacker(i))
			}
			if p.total != 100 {
				t.Fatalf("%d streams are open", p.total)
			}
			for _, other := range []string{"2001:db8:3::/64", "198.51.100.1", "unknown"} {
				ctx, end, err := p.Begin(t.Context(), other)
				if err != nil {
					t.Fatalf("%s: %v", other, err)
				}
				defer end()
				kept = append(kept, ctx)
			}
			for i := range 1000 { // it goes on
				_, _, _ = p.Begin(t.Context(), attacker(i+500))
			}
			for i, ctx := range kept {
				if ctx.Err() != nil {
					t.Errorf("stream %d was taken", i)
				}
			}
			counted := 0
			for _, n := range p.byNetwork {
				counted += n.open
			}
			if counted != p.total || len(p.byNetwork) != 5 {
				t.Errorf("%d streams of %d networks are counted, and %d in all", counted, len(p.byNetwork), p.total)
			}
		})
	}
}

func TestAStreamIsCountedUntilItEndsAndOnce(t *testing.T) {
	p := small(3)
	var ends []func()
	for range 3 {
		_, end, err := p.Begin(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, end)
	}
	for _, i := range []int{1, 1, 0, 2, 2} {
		ends[i]()
	}
	if p.total != 0 || len(p.byClient) != 0 || len(p.byNetwork) != 0 {
		t.Errorf("%d are counted, of %d clients", p.total, len(p.byClient))
	}
}
