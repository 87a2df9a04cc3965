package chainreset

import (
	"slices"
	"testing"

	"github.com/purserhq/purser/services/wallet/internal/block"
)

// on is the block of a number on a chain: "a" is that which was read.
func on(chain byte, number uint64) block.Block {
	return block.Block{Number: number, Hash: [32]byte{chain, byte(number), byte(number >> 8)}}
}

// history is that of a node that is on chain a up to a block, and then on another chain up to its head.
func history(kept []block.Block, fork int64, then byte, head uint64) History {
	h := History{Head: on(then, head)}
	for _, b := range kept {
		switch {
		case b.Number > head:
			h.Blocks = append(h.Blocks, block.Block{})
		case int64(b.Number) <= fork:
			h.Blocks = append(h.Blocks, on('a', b.Number))
		default:
			h.Blocks = append(h.Blocks, on(then, b.Number))
		}
	}
	return h
}

func TestWhatNodesShow(t *testing.T) {
	var kept []block.Block
	for _, n := range []uint64{1000, 990, 960, 900, 512, 64, 8, 1, 0} {
		kept = append(kept, on('a', n))
	}
	node := func(fork int64, then byte, head uint64) History { return history(kept, fork, then, head) }
	sound, lagging := node(2000, 'a', 1003), node(2000, 'a', 700)
	fresh, elsewhere, forked := node(0, 'b', 5), node(-1, 'b', 5000), node(970, 'b', 1001)
	third := node(0, 'c', 5)
	both := []History{elsewhere, elsewhere}
	farther := node(2000, 'a', 600)
	blank := History{Head: on('a', 1000), Blocks: make([]block.Block, len(kept))}
	for name, tc := range map[string]struct {
		nodes              []History
		need               int
		reset, same, reorg bool
		back               bool
	}{
		"the only node has the newest":             {[]History{sound}, 1, false, true, false, false},
		"the only node lags":                       {[]History{lagging}, 1, false, false, false, true},
		"it stands at the first block":             {[]History{node(2000, 'a', 0)}, 1, false, false, false, true},
		"it began anew":                            {[]History{fresh}, 1, true, false, false, false},
		"it is of another chain":                   {[]History{elsewhere}, 1, true, false, false, false},
		"it went far back, and is farther again":   {[]History{node(600, 'b', 1200)}, 1, true, false, false, false},
		"it went back a little, and is not as far": {[]History{node(970, 'b', 995)}, 1, true, false, false, false},
		"both lag":                                   {[]History{lagging, farther}, 2, false, false, false, true},
		"one of two lags":                            {[]History{lagging, sound}, 2, false, true, false, false},
		"one of two lags, the other is silent":       {[]History{lagging}, 2, false, false, false, false},
		"one of two lags, the other is reset":        {[]History{lagging, fresh}, 2, false, false, false, false},
		"it has the number and not the block":        {[]History{blank}, 1, false, false, false, false},
		"a reorg":                                    {[]History{forked}, 1, false, false, true, false},
		"one of two began anew":                      {[]History{fresh, sound}, 2, false, true, false, false},
		"one of two is of another chain":             {[]History{elsewhere, lagging}, 2, false, false, false, false},
		"one of two is of another, one silent":       {[]History{elsewhere}, 2, false, false, false, false},
		"two are, the third is sound":                {append(both, sound), 2, false, true, false, false},
		"two are of two other chains":                {[]History{fresh, third}, 2, false, false, false, false},
		"both began anew":                            {[]History{fresh, fresh}, 2, true, false, false, false},
		"both did, and a third lags":                 {[]History{fresh, fresh, lagging}, 2, true, false, false, false},
		"control: one of two, if one were enough":    {[]History{elsewhere, lagging}, 1, true, false, false, false},
		"one of two is on a fork of the last blocks": {[]History{forked, sound}, 2, false, true, false, false},
		"both are on a fork of the last blocks":      {[]History{forked, forked}, 2, false, false, true, false},
	} {
		got := judge(kept, tc.nodes, tc.need)
		if got.reset != tc.reset || got.same != tc.same || got.reorg != tc.reorg || got.back != tc.back {
			t.Errorf("%s: %+v", name, got)
		}
		if got.reset && got.evidence == "" || got.reorg && got.common != 960 {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// A chain that replaces more than maxReorg blocks was reset. How deep a reorg was is known from the blocks that are
// kept, which are all of the last ones here.
func TestAReorgIsNoDeeperThanItMayBe(t *testing.T) {
	var kept []block.Block
	for n := int64(1000); n >= 900; n-- {
		kept = append(kept, on('a', uint64(n)))
	}
	for depth, reorg := range map[int64]bool{1: true, 63: true, 64: true, 65: false, 100: false} {
		nodes := []History{history(kept, 1000-depth, 'b', 1001)}
		got := judge(kept, nodes, 1)
		if got.reorg != reorg || got.reset == reorg || got.same || got.back {
			t.Errorf("%d blocks that were replaced are %+v", depth, got)
		}
		if reorg && got.common != uint64(1000-depth) {
			t.Errorf("of %d blocks that were replaced the one before is %d", depth, got.common)
		}
	}
}

// Few blocks are kept, however long a chain becomes, and among them always one that a chain which went back by some
// blocks soon has another one of.
func TestFewBlocksAreKeptAndNoneIsFarFromAnother(t *testing.T) {
	var kept []block.Block
	head := uint64(7)
	for step := range uint64(2000) {
		for _, n := range numbersToAdd(kept, head) {
			kept = append(kept, on('a', n))
		}
		slices.SortFunc(kept, func(a, b block.Block) int { return int(b.Number) - int(a.Number) })
		gone := tooMany(kept)
		kept = slices.DeleteFunc(kept, func(b block.Block) bool { return slices.Contains(gone, b.Number) })
		if len(kept) > 120 || kept[0].Number != head || kept[len(kept)-1].Number != 0 {
			t.Fatalf("at block %d there are %d, from %d to %d", head, len(kept), kept[0].Number,
				kept[len(kept)-1].Number)
		}
		for i := range kept[1:] {
			back := head - kept[i+1].Number
			if gap := kept[i].Number - kept[i+1].Number; gap > max(2, back) {
				t.Fatalf("at block %d none is kept between %d and %d", head, kept[i+1].Number, kept[i].Number)
			}
		}
		head += 1 + step*step%977
	}
}
