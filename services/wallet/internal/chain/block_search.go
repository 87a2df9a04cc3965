package chain

import (
	"context"
	"fmt"
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
	first, err := s.fetch(ctx, 0)
	if err != nil {
		return nil, fmt.Errorf("first block: %w", err)
	}
	return s, s.add(first)
}

// lastAt returns the last block at or before t; false when the chain began after
// t. The head must be after t.
func (s *blockSearch) lastAt(ctx context.Context, t time.Time) (block.Block, bool, error) {
	for round := range maxSearchRounds {
		low, high, found := s.bracket(t)
		if !found {
			return block.Block{}, false, nil
		}
		if high.Number == low.Number+1 {
			return low, true, nil
		}
		halve := round >= interpolationRounds && round%2 == 1
		b, err := s.fetch(ctx, numberBetween(low, high, t, halve))
		if err != nil {
			return block.Block{}, false, err
		}
		if err := s.add(b); err != nil {
			return block.Block{}, false, err
		}
	}
	return block.Block{}, false, fmt.Errorf("no block of %s in %d rounds", t, maxSearchRounds)
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

// fetch reads a block within pastCallTimeout.
func (s *blockSearch) fetch(ctx context.Context, number uint64) (block.Block, error) {
	ctx, cancel := context.WithTimeout(ctx, pastCallTimeout)
	defer cancel()
	return s.n.numbered(ctx, number)
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
