package cache

import (
	"context"
	"time"

	"github.com/purserhq/purser/pkg/redisx"
)

// budget is what one operation has left for waiting for Redis. Once it is used
// up the rest of the operation goes without.
type budget struct{ left time.Duration }

const worthTrying = 2 * time.Millisecond

// spend runs one step within what is left.
func (b *budget) spend(ctx context.Context, step func(context.Context) error) error {
	if b.left < worthTrying {
		return redisx.ErrUnavailable
	}
	ctx, cancel := redisx.Within(ctx, b.left)
	defer cancel()
	begin := time.Now()
	err := step(ctx)
	b.left -= time.Since(begin)
	return redisx.Unavailable(err)
}
