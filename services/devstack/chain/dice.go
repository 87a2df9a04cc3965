package chain

import "github.com/holiman/uint256"

// dice is SplitMix64 (Steele, Lea, Flood 2014): small, and the same for ever,
// which the standard library's generators don't promise. Not for secrets.
type dice struct{ state uint64 }

// newDice is an independent sequence for each seed, step and lane.
func newDice(seed uint64, step, lane int) *dice {
	d := &dice{state: seed}
	d.state = d.next() ^ uint64(step)
	d.state = d.next() ^ uint64(lane)
	return d
}

func (d *dice) next() uint64 {
	d.state += 0x9e3779b97f4a7c15
	z := d.state
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb
	return z ^ (z >> 31)
}

// below is a number in [0, n). Its bias, under n/2^64, doesn't matter here.
func (d *dice) below(n uint64) uint64 { return d.next() % n }

// upTo is an amount in [1, most].
func (d *dice) upTo(most *uint256.Int) *uint256.Int {
	wide := &uint256.Int{d.next(), d.next(), 0, 0}
	wide.Mod(wide, most)
	return wide.AddUint64(wide, 1)
}
