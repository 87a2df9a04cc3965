package audit

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// RecordedEvent is an event as it is stored.
type RecordedEvent struct {
	Event
	ID     uuid.UUID
	At     time.Time
	Client Client // zero once it was erased
	Seal   int64  // number of its seal; 0 while it has none
}

// Filter selects events. Fields that are zero do not filter.
type Filter struct {
	Subject, Actor uuid.UUID
	Type           Type
	Outcome        Outcome
	From, Until    time.Time // from From on, before Until
	Before         uuid.UUID // only events older than the one of this id
	Limit          int       // maximal number of events
}

// Reader lists events, newest first.
type Reader interface {
	List(ctx context.Context, f Filter) ([]RecordedEvent, error)
}
