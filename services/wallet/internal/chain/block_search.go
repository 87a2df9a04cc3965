package chain

import (
	"context"
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"sync"
	"time"

	"github.com/purserhq/purser/services/wallet/internal/block"
)

const (
	// maxSearchRounds bounds a search. After interpolationRounds every other round
	// halves the range, which has at most 2^63 blocks.
	maxSearchRounds = 140
	// interpolationRounds are the rounds that only interpolate.
	interpolationRounds = 4
)

// blockSearch finds blocks of one node by their time. The blocks that it reads
// for one time narrow the search for others. It is safe for concurrent use.
type blockSearch struct {
	n *node
	// finalBefore: blocks of earlier times are final, and remembered for later
	// searches.
	finalBefore time.Time

	mu sync.Mutex
	// known blocks by number, the first block and the head at the ends.
	known []block.Block
}

// newBlockSearch starts a search among the blocks up to head, with the blocks
// that the node is remembered to have.
func newBlockSearch(ctx context.Context, n *node, head block.Block, finalBefore time.Time) (*blockSearch, error) {
	s := &blockSearch{n: n, finalBefore: finalBefore, known: []block.Block{head}}
	if head.Number == 0 {
		return s, nil
	}
	for _, b := range n.blocksBelow(head) {
		if err := s.add(b); err != nil {
			return nil, err
		}
	}
	if s.known[0].Number == 0 {
		return s, nil
	}
	first, failures := n.numbered(ctx, pastCallTimeout, []uint64{0})
	if failures[0] != nil {
		return nil, fmt.Errorf("first block: %w", failures[0])
	}
	return s, s.add(first[0])
}

// foundBlock is the last block at or before a time; none when the chain began
// after it.
type foundBlock struct {
	block.Block
	none bool
	err  error
}

// lastAt returns the last block at or before each of the times. The head must be
// after all of them. In each round it reads one block for each time that is not
// narrowed down yet, all of them together.
func (s *blockSearch) lastAt(ctx context.Context, times []time.Time) []foundBlock {
	found := make([]foundBlock, len(times))
	var open []int
	for i := range times {
		open = append(open, i)
	}
	for round := range maxSearchRounds {
		halve := round >= interpolationRounds && round%2 == 1
		wanted := map[uint64][]int{} // by block number: the times that it is read for
		for _, i := range open {
			low, high, ok := s.bracket(times[i])
			switch {
			case !ok:
				found[i].none = true
			case high.Number == low.Number+1:
				found[i].Block = low
			default:
				number := numberBetween(low, high, times[i], halve)
				wanted[number] = append(wanted[number], i)
			}
		}
		if len(wanted) == 0 {
			return found
		}
		open = open[:0]
		numbers := slices.Sorted(maps.Keys(wanted))
		blocks, failures := s.n.numbered(ctx, pastCallTimeout, numbers)
		for j, number := range numbers {
			err := failures[j]
			if err == nil {
				err = s.add(blocks[j])
			}
			if err == nil {
				open = append(open, wanted[number]...)
				continue
			}
			for _, i := range wanted[number] {
				found[i].err = err
			}
		}
	}
	for _, i := range open {
		found[i].err = fmt.Errorf("no block of %s in %d rounds", times[i], maxSearchRounds)
	}
	return found
}

// bracket returns the last known block at or before t and the first one after
// it; false when the chain began after t.
func (s *blockSearch) bracket(t time.Time) (low, high block.Block, found bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, _ := slices.BinarySearchFunc(s.known, t, func(b block.Block, t time.Time) int {
		if b.Time.After(t) {
			return 1
		}
		return -1
	})
	if i == 0 || i == len(s.known) {
		return low, high, false
	}
	return s.known[i-1], s.known[i], true
}

// add adds a block to the known ones. It is an error if it contradicts them: the
// times along a chain never decrease.
func (s *blockSearch) add(b block.Block) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, known := slices.BinarySearchFunc(s.known, b.Number, func(k block.Block, n uint64) int {
		switch {
		case k.Number < n:
			return -1
		case k.Number > n:
			return 1
		}
		return 0
	})
	if known {
		if s.known[i] != b {
			return fmt.Errorf("block %d has changed", b.Number)
		}
		return nil
	}
	if i > 0 && b.Time.Before(s.known[i-1].Time) || i < len(s.known) && b.Time.After(s.known[i].Time) {
		return fmt.Errorf("the times of the blocks decrease around block %d", b.Number)
	}
	s.known = slices.Insert(s.known, i, b)
	if b.Time.Before(s.finalBefore) {
		s.n.rememberBlock(b)
	}
	return nil
}

// numberBetween returns a block number between two that are not neighbours: the
// middle one if halve, otherwise the one of t if blocks come at a steady pace.
func numberBetween(low, high block.Block, t time.Time, halve bool) uint64 {
	gap := high.Number - low.Number
	if halve {
		return low.Number + gap/2
	}
	elapsed, total := uint64(t.Unix()-low.Time.Unix()), uint64(high.Time.Unix()-low.Time.Unix())
	up, down := bits.Mul64(gap, elapsed)
	offset, _ := bits.Div64(up, down, total) // elapsed is below total, so it fits
	return low.Number + min(max(offset, 1), gap-1)
}
