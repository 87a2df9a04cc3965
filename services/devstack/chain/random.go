package chain

import "github.com/holiman/uint256"

// random is SplitMix64 (Steele, Lea, Flood 2014). Its sequence never changes, which the standard library's
// generators do not promise. Not for secrets.
type random struct{ state uint64 }

// newRandom starts an independent sequence for each seed, step and stream.
func newRandom(seed uint64, step, stream int) *random {
	r := &random{state: seed}
	r.state = r.next() ^ uint64(step)
	r.state = r.next() ^ uint64(stream)
	return r
}

func (r *random) next() uint64 {
	r.state += 0x9e3779b97f4a7c15
	z := r.state
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb
	return z ^ (z >> 31)
}

// below returns a number in [0, n), with a bias under n/2^64.
func (r *random) below(n uint64) uint64 { return r.next() % n }

// upTo returns an amount in [1, limit].
func (r *random) upTo(limit *uint256.Int) *uint256.Int {
	wide := &uint256.Int{r.next(), r.next(), 0, 0}
	wide.Mod(wide, limit)
	return wide.AddUint64(wide, 1)
}
