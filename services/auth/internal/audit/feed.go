package audit

import (
	"context"

	"github.com/google/uuid"
)

// MaxEventsPerBatch is the maximal number of events of a Batch.
const MaxEventsPerBatch = 500

// Position is that of an event in the feed: a number that it is given after its commit, under a lock. So nothing is
// ever added before a position that was read, which the ids don't promise: they are made before the commit. The zero
// Position is before the first event.
type Position struct {
	Number int64
	Event  uuid.UUID
}

// Batch is the part of the feed after a position.
type Batch struct {
	// Events are those that the filter selects, in the order of the feed.
	Events []RecordedEvent
	// Last is how far the batch goes, filtered events included.
	Last Position
	// More reports whether there is more at once.
	More bool
}

// FeedStore is the feed of events: all of them in one order, which is that of their commits up to the second or so
// that it takes to number them.
type FeedStore interface {
	// Position returns the position of an event; errs.NotFound for an id that no event has.
	Position(ctx context.Context, event uuid.UUID) (Position, error)
	// After returns what follows a position. Of f only Subject, Actor, Type and Outcome select.
	After(ctx context.Context, p Position, f Filter) (Batch, error)
}
