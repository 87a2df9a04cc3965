package chain

// cursor walks the plan forward, so that a block's moves cost one step's work and
// not the whole plan's.
type cursor struct {
	plan Plan
	book *ledger
	done int
}

func newCursor(p Plan) cursor {
	return cursor{plan: p, book: newLedger()}
}

// moves returns the moves of the steps in (after, upTo]. Going back is allowed,
// and walks from the start again.
func (c *cursor) moves(after, upTo int) []Move {
	if c.done > after {
		*c = newCursor(c.plan)
	}
	for c.done < after {
		c.done++
		c.plan.step(c.done, c.book)
	}
	var moves []Move
	for c.done < upTo {
		c.done++
		moves = append(moves, c.plan.step(c.done, c.book)...)
	}
	return moves
}
