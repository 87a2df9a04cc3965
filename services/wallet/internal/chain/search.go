package chain

import (
	"context"
	"fmt"
	"math/bits"
	"slices"
	gosync "sync"
	"time"

	"github.com/purserhq/purser/services/wallet/internal/sync"
)

const (
	// maxRounds bounds a search: every other round halves what is left.
	maxRounds = 140
	// guesses are the rounds that only interpolate.
	guesses = 4
)

// search finds blocks of one node by their time. What it learns for one time
// helps with the others; it is safe for concurrent use.
type search struct {
	n *node
	// before it, blocks are noted for other searches.
	before time.Time

	mu gosync.Mutex
	// known blocks by number, the first and the newest at the ends.
	known []sync.Block
}

// newSearch looks among the blocks up to head, with those that others found.
// What it finds before a time it leaves to the next.
func newSearch(ctx context.Context, n *node, head sync.Block, before time.Time) (*search, error) {
	s := &search{n: n, before: before, known: []sync.Block{head}}
	if head.Number == 0 {
		return s, nil
	}
	for _, b := range n.foundBelow(head) {
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

// at returns the last block at or before t, of which a later one must be known
// that is after t. It is false when the chain began after t.
func (s *search) at(ctx context.Context, t time.Time) (sync.Block, bool, error) {
	for round := range maxRounds {
		low, high, found := s.around(t)
		if !found {
			return sync.Block{}, false, nil
		}
		if high.Number == low.Number+1 {
			return low, true, nil
		}
		b, err := s.fetch(ctx, between(low, high, t, round >= guesses && round%2 == 1))
		if err != nil {
			return sync.Block{}, false, err
		}
		if err := s.add(b); err != nil {
			return sync.Block{}, false, err
		}
	}
	return sync.Block{}, false, fmt.Errorf("no block of %s in %d rounds", t, maxRounds)
}

// around returns the known blocks on either side of t, high after it. It is
// false when there is none before.
func (s *search) around(t time.Time) (low, high sync.Block, found bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, _ := slices.BinarySearchFunc(s.known, t, func(b sync.Block, t time.Time) int {
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

// add notes a block. Times never fall along a chain.
func (s *search) add(b sync.Block) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, there := slices.BinarySearchFunc(s.known, b.Number, func(k sync.Block, n uint64) int {
		switch {
		case k.Number < n:
			return -1
		case k.Number > n:
			return 1
		}
		return 0
	})
	if there {
		if s.known[i] != b {
			return fmt.Errorf("block %d has changed", b.Number)
		}
		return nil
	}
	if i > 0 && b.Time.Before(s.known[i-1].Time) || i < len(s.known) && b.Time.After(s.known[i].Time) {
		return fmt.Errorf("the times of the blocks fall around block %d", b.Number)
	}
	s.known = slices.Insert(s.known, i, b)
	if b.Time.Before(s.before) {
		s.n.noteFound(b)
	}
	return nil
}

// fetch reads a block within the time of one call.
func (s *search) fetch(ctx context.Context, number uint64) (sync.Block, error) {
	ctx, cancel := context.WithTimeout(ctx, pastTimeout)
	defer cancel()
	return s.n.numbered(ctx, number)
}

// between is a block's number strictly between two that are not neighbours:
// in the middle, or where t lies if blocks come at a steady pace.
func between(low, high sync.Block, t time.Time, middle bool) uint64 {
	gap := high.Number - low.Number
	if middle {
		return low.Number + gap/2
	}
	since, all := uint64(t.Unix()-low.Time.Unix()), uint64(high.Time.Unix()-low.Time.Unix())
	up, down := bits.Mul64(gap, since)
	offset, _ := bits.Div64(up, down, all) // since is below all, so it fits
	return low.Number + min(max(offset, 1), gap-1)
}
