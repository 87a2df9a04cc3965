package holdings

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/purserhq/purser/pkg/testkit"
)

// stream sends messages, and then its end, or nothing until its context ends.
type stream struct {
	grpc.ClientStream
	done     <-chan struct{}
	messages int
	ends     bool
}

func (s *stream) Recv() (*int, error) {
	switch {
	case s.messages > 0:
		s.messages--
		return new(int), nil
	case s.ends:
		return nil, io.EOF
	}
	<-s.done
	return nil, context.Canceled
}

// What a reader does with a message may take longer than the other side may be silent.
func TestTheTimeThatAMessageTakesIsNoSilence(t *testing.T) {
	t.Parallel()
	const silence = 100 * time.Millisecond
	for _, tc := range []struct {
		name string
		ends bool
	}{{"a stream that ends", true}, {"a silent stream", false}} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			visited := 0
			open := func(ctx context.Context) (grpc.ServerStreamingClient[int], error) {
				return &stream{done: ctx.Done(), messages: 2, ends: tc.ends}, nil
			}
			err := receive(t.Context(), silence, open, func(ctx context.Context, _ *int) (bool, error) {
				begun := time.Now()
				testkit.Eventually(t, time.Minute, func() bool { return time.Since(begun) > 2*silence })
				visited++
				return true, ctx.Err()
			})
			var silent *silentError
			if visited != 2 || errors.As(err, &silent) == tc.ends || errors.Is(err, io.EOF) != tc.ends {
				t.Errorf("%d messages, and the end %v", visited, err)
			}
		})
	}
}
