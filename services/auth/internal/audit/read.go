package audit

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// Recorded is an event as it is kept.
type Recorded struct {
	Event
	ID     uuid.UUID
	At     time.Time
	Client Client // the zero one once it was erased
	Seal   int64  // 0 while it is in none
}

// Filter says which events a list has; what is zero is not asked for.
type Filter struct {
	Subject, Actor uuid.UUID
	Type           Type
	Outcome        Outcome
	From, Until    time.Time
	Before         uuid.UUID // older than this one
	Limit          int
}

// Reader lists events, newest first.
type Reader interface {
	List(ctx context.Context, f Filter) ([]Recorded, error)
}
