package cache

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// recoveryTime is how long Redis has to answer every command for an outage to be
// over.
const recoveryTime = time.Second

// outage logs once when Redis stops answering and once when it answers again.
type outage struct {
	log    *slog.Logger
	entity string
	since  time.Time
	// lastFailure is nanoseconds after since, 0 outside an outage.
	lastFailure atomic.Int64
}

func (o *outage) observe(ctx context.Context, failed bool) {
	last := o.lastFailure.Load()
	if !failed && last == 0 {
		return
	}
	now := int64(time.Since(o.since)) + 1
	switch {
	case failed:
		if o.lastFailure.Swap(now) == 0 {
			o.log.WarnContext(ctx, "cache: redis doesn't answer, reading from the source", "entity", o.entity)
		}
	case now-last >= int64(recoveryTime) && o.lastFailure.CompareAndSwap(last, 0):
		o.log.InfoContext(ctx, "cache: redis answers again", "entity", o.entity)
	}
}
