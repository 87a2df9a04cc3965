package holdings_test

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/testkit"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/portfolio/internal/holdings"
)

// changesClient answers each WatchChanges with the next stream of a list, and then with none.
type changesClient struct {
	walletv1.HoldingsServiceClient
	asked   chan string // the cursors of the calls
	streams []changesStream
}

type changesStream struct {
	grpc.ServerStreamingClient[walletv1.WatchChangesResponse]
	messages []*walletv1.WatchChangesResponse
	end      error
}

func (c *changesClient) WatchChanges(ctx context.Context, r *walletv1.WatchChangesRequest,
	_ ...grpc.CallOption) (grpc.ServerStreamingClient[walletv1.WatchChangesResponse], error) {
	select {
	case c.asked <- r.GetCursor():
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if len(c.streams) == 0 {
		return nil, errs.Unavailable("X", "no more")
	}
	s := c.streams[0]
	c.streams = c.streams[1:]
	return &s, nil
}

func (s *changesStream) Recv() (*walletv1.WatchChangesResponse, error) {
	if len(s.messages) == 0 {
		return nil, s.end
	}
	m := s.messages[0]
	s.messages = s.messages[1:]
	return m, nil
}

// It goes on after the last message that was worked off, and anew after a cursor that has expired.
func TestAFollowerContinuesWhereItWas(t *testing.T) {
	a, b := uuid.New(), uuid.New()
	of := func(cursor string, owners ...uuid.UUID) *walletv1.WatchChangesResponse {
		m := &walletv1.WatchChangesResponse{Cursor: cursor}
		for _, o := range owners {
			m.Changes = append(m.Changes, &walletv1.Change{OwnerId: o.String()})
		}
		return m
	}
	client := &changesClient{asked: make(chan string), streams: []changesStream{
		{messages: []*walletv1.WatchChangesResponse{of("c-1"), of("c-2", a, b, a)}, end: io.EOF},
		{messages: []*walletv1.WatchChangesResponse{of("c-3", b)}, end: io.EOF}, // which fails to be worked off
		{end: errs.FailedPrecondition("CURSOR_EXPIRED", "")},
	}}
	told := make(chan []uuid.UUID, 10)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	f := holdings.NewFollower(client, func(ctx context.Context) (context.Context, error) { return ctx, nil },
		func(_ context.Context, owners []uuid.UUID) error {
			told <- owners
			if len(owners) == 1 {
				return io.ErrUnexpectedEOF
			}
			return nil
		}, slog.New(slog.DiscardHandler))
	go func() { ended <- f.Run(ctx) }()
	for i, want := range []string{"", "c-2", "c-2", ""} {
		if got := testkit.Receive(t, client.asked, time.Minute); got != want {
			t.Errorf("call %d is after %q, want %q", i, got, want)
		}
	}
	stop()
	if err := testkit.Receive(t, ended, time.Minute); err != nil {
		t.Error(err)
	}
	if got := <-told; !slices.Equal(got, []uuid.UUID{a, b}) {
		t.Errorf("%v", got)
	}
}
