package streams

import (
	"context"
	"fmt"
	"time"

	"github.com/purserhq/purser/pkg/errs"
)

// Deliver calls send, which sends one message, and waits for it until limit:
// errs.Deadline (READER_TOO_SLOW) after that, or ctx's error once it ends. A caller that
// gets an error returns from the stream's handler at once: only that ends a send that hangs.
func Deliver(ctx context.Context, limit time.Duration, send func() error) error {
	sent := make(chan error, 1)
	go func() { sent <- send() }()
	late := time.NewTimer(limit)
	defer late.Stop()
	select {
	case err := <-sent:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-late.C:
		return errs.Deadline("READER_TOO_SLOW", fmt.Sprintf("no message was read for %s; continue after the cursor "+
			"of the last one that you have", limit))
	}
}
