package rpc

import (
	"context"
	"time"

	"github.com/purserhq/purser/pkg/errs"
)

// Floor is the minimum response time of calls whose duration would otherwise reveal whether an account exists. It has
// to be above the slowest such call, including checks of old password hashes: a slower one can be told apart.
type Floor struct{ minimum time.Duration }

// NewFloor returns a floor; 0 is none.
func NewFloor(minimum time.Duration) Floor { return Floor{minimum} }

// wait returns once the call that started at start may be answered, or ctx ends. Errors in the request itself depend
// on no account and are answered at once.
func (f Floor) wait(ctx context.Context, start time.Time, err error) {
	if errs.Is(err, errs.KindInvalid) {
		return
	}
	timer := time.NewTimer(time.Until(start.Add(f.minimum)))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
