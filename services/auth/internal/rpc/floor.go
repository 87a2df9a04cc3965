package rpc

import (
	"context"
	"time"

	"github.com/purserhq/purser/pkg/errs"
)

// Floor is the least time that an answer takes which would otherwise tell by
// its time whether an account exists. It has to be above what the slowest such
// answer takes, old password hashes included; one that takes longer stands out.
type Floor struct{ least time.Duration }

// NewFloor returns a floor; 0 is none.
func NewFloor(least time.Duration) Floor { return Floor{least} }

// level waits until the answer of a call that began at begun may be given, or
// the caller has gone. What is told from the request alone, or doesn't name an
// account, is told at once.
func (f Floor) level(ctx context.Context, begun time.Time, err error) {
	if errs.Is(err, errs.KindInvalid) {
		return
	}
	timer := time.NewTimer(time.Until(begun.Add(f.least)))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
