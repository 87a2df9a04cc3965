package grpcserver

import (
	"context"
	"time"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
)

// CheckCallers has check look at each call of a method that is not public, when its
// token and access rule allow it and before its message is read: for what a token
// can't say, such as whether its user is still an admin. An error of check is the
// answer. It is called once for a stream. Call it before Serve, once.
func (s *Server) CheckCallers(check func(ctx context.Context, fullMethod string) error) {
	s.checks.caller.Store(&check)
}

// callerLayer runs the check of CheckCallers.
func callerLayer(checks *checks) func(context.Context, *call) error {
	return func(ctx context.Context, c *call) error {
		if check := checks.caller.Load(); check != nil && !c.public() {
			if err := (*check)(ctx, c.method); err != nil {
				return err
			}
		}
		return c.next(ctx)
	}
}

// streamCheckInterval is how often the token of a running stream is verified anew.
const streamCheckInterval = time.Second

// whileAccepted runs a stream and ends its context when its token is not accepted any
// more, because it has expired or was revoked. The refusal is then the stream's
// answer, whatever its handler returns. A stream goes on while the keys of tokens
// can't be read.
func whileAccepted(ctx context.Context, v Verifier, token string, run func(context.Context) error) error {
	ctx, end := context.WithCancelCause(ctx)
	ticker := time.NewTicker(streamCheckInterval)
	stopped, checked := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(checked)
		for {
			select {
			case <-stopped:
				return
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			if _, err := v.Verify(ctx, token); errs.Is(err, errs.KindUnauthenticated) {
				end(err)
				return
			}
		}
	}()
	defer func() {
		ticker.Stop()
		close(stopped)
		<-checked
		end(nil)
	}()
	err := run(ctx)
	if refused := refusedSince(ctx); refused != nil {
		return refused
	}
	return err
}

// refusedSince is the error with which whileAccepted has ended a stream's context; nil
// when it has not.
func refusedSince(ctx context.Context) error {
	if authn.CallerFrom(ctx).Anonymous() || ctx.Err() == nil {
		return nil
	}
	if cause := context.Cause(ctx); errs.Is(cause, errs.KindUnauthenticated) {
		return cause
	}
	return nil
}
