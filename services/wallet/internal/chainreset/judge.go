package chainreset

import (
	"encoding/hex"
	"fmt"
	"math/bits"

	"github.com/purserhq/purser/services/wallet/internal/block"
)

// maxReorg is how many of the newest blocks may be replaced without a reset.
const maxReorg = 64

// judgement of what nodes say.
type judgement struct {
	// reset: enough nodes have the same other block, and none that answers has the newest that is kept.
	reset bool
	// same: a node has the newest kept block. Or enough have others of the last ones alone, those after common.
	same, reorg bool
	common      uint64
	// back: enough nodes answer, and none has come to the newest kept block or has another one where one is kept. They
	// lag, or the chain went back to an earlier state; head is the newest of theirs.
	back     bool
	head     uint64
	evidence string // what they show, where one of them has another block
}

// side is on which side a node is.
type side int

const (
	behind side = iota // it lacks the newest kept block, and has no other one
	same
	reorged
	other
)

// judge compares what nodes say with the kept blocks, the newest first. need is how many nodes have to agree.
func judge(kept []block.Block, nodes []History, need int) (j judgement) {
	resets, reorgs, behinds := map[block.Block]int{}, 0, 0
	for _, n := range nodes {
		j.head = max(j.head, n.Head.Number)
		at, lowest, common := sideOf(kept, n)
		switch at {
		case same:
			j.same = true
		case behind:
			behinds++
		case reorged:
			if reorgs == 0 || common < j.common {
				j.common = common
			}
			reorgs++
		case other:
			is := n.Blocks[lowest]
			if resets[is]++; j.evidence == "" || resets[is] == need {
				was := kept[lowest].Hash
				j.evidence = fmt.Sprintf("block %d was 0x%s… when it was read, and is 0x%s… now; the chain is at "+
					"block %d", is.Number, hex.EncodeToString(was[:4]), hex.EncodeToString(is.Hash[:4]), n.Head.Number)
			}
			j.reset = j.reset || resets[is] >= need
		}
	}
	j.reset = j.reset && !j.same
	j.reorg = reorgs >= need && !j.same && !j.reset
	j.back = behinds >= need && behinds == len(nodes) && j.head < kept[0].Number
	return j
}

// sideOf returns where a node is, the place of the lowest kept block of which it has another one, and the number of
// the highest below that which it has too.
func sideOf(kept []block.Block, n History) (at side, lowest int, common uint64) {
	lowest = -1
	for i := len(kept) - 1; i >= 0; i-- {
		switch is := n.Blocks[i]; {
		case is == block.Block{}:
		case is.Hash != kept[i].Hash:
			lowest = i
		default:
			common = kept[i].Number
		}
		if lowest >= 0 {
			break
		}
	}
	tip := kept[0].Number
	switch {
	case lowest < 0 && n.Blocks[0] != block.Block{}:
		return same, lowest, common
	case lowest < 0:
		return behind, lowest, common
	case kept[lowest].Number > 0 && n.Head.Number >= tip && tip-common <= maxReorg:
		return reorged, lowest, common
	}
	return other, lowest, common
}

// numbersToAdd are those of the blocks to keep of a chain that has come to block head.
func numbersToAdd(kept []block.Block, head uint64) (numbers []uint64) {
	if len(kept) == 0 {
		numbers = append(numbers, 0)
		for n := uint64(1); n < head; n <<= 1 {
			numbers = append(numbers, n)
		}
		if head > 0 {
			numbers = append(numbers, head)
		}
		return numbers
	}
	tip := kept[0].Number
	if head <= tip {
		return nil
	}
	for back := uint64(1); back < head-tip; back <<= 1 {
		numbers = append(numbers, head-back)
	}
	return append(numbers, head)
}

// tooMany are the numbers of kept blocks, the newest first, that are not kept any longer: of two that are nearer to
// each other than a quarter of their distance from the newest, the older one goes.
func tooMany(kept []block.Block) (numbers []uint64) {
	if len(kept) == 0 {
		return nil
	}
	tip, last := kept[0].Number, kept[0].Number
	for _, b := range kept[1:] {
		switch {
		case bits.OnesCount64(b.Number) <= 1: // the first, and powers of two
		case last-b.Number < max(1, (tip-b.Number)/4):
			numbers = append(numbers, b.Number)
			continue
		}
		last = b.Number
	}
	return numbers
}
