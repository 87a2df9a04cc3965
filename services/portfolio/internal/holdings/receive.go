package holdings

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
)

// silentError ends a stream on which nothing came.
type silentError struct{ after time.Duration }

func (e *silentError) Error() string { return "no message came for " + e.after.String() }

// receive opens a stream and calls visit with each message, until visit wants no more or fails, or the stream ends.
// The error is visit's, the stream's, io.EOF, or a silentError when no message came for silence; the time that visit
// takes doesn't count.
func receive[M any](ctx context.Context, silence time.Duration,
	open func(context.Context) (grpc.ServerStreamingClient[M], error),
	visit func(ctx context.Context, m *M) (more bool, err error)) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	quiet := time.AfterFunc(silence, func() { stop(&silentError{silence}) })
	defer quiet.Stop()
	stream, err := open(ctx)
	for err == nil {
		quiet.Reset(silence)
		var m *M
		if m, err = stream.Recv(); err != nil {
			break
		}
		quiet.Stop()
		if more, err := visit(ctx, m); err != nil || !more {
			return err
		}
	}
	var silent *silentError
	if errors.As(context.Cause(ctx), &silent) {
		return silent
	}
	return err
}
