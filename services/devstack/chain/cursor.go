package chain

// cursor iterates over the plan, so that the moves of the next block do not need the whole plan again.
type cursor struct {
	plan Plan
	book *ledger
	done int
}

func newCursor(p Plan) cursor {
	return cursor{plan: p, book: newLedger()}
}

// moves returns the moves of the steps in (after, upTo]. If after is before the cursor, it starts over.
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
