package rpc

import (
	"context"

	"github.com/purserhq/purser/services/internal/streams"
)

const (
	// maxStreams bounds the streams of one replica. Those of service accounts have a
	// part to themselves, so that callers without an identity can't take it.
	maxStreams         = 10_000
	maxServiceStreams  = maxStreams / 4
	maxAnybodysStreams = maxStreams - maxServiceStreams
)

// revocationStreams counts the open streams and divides them fairly.
type revocationStreams struct {
	services, anybody *streams.Pool
}

// newRevocationStreams returns streams of which each client has at most maxPerClient.
func newRevocationStreams(maxPerClient int) *revocationStreams {
	return &revocationStreams{
		services: streams.NewPool(maxServiceStreams, maxPerClient),
		anybody:  streams.NewPool(maxAnybodysStreams, maxPerClient),
	}
}

// begin counts one more stream until end is called: of the service account, if that
// is not "", and of the address otherwise. The context that it returns ends, with
// streams.ErrTaken as its cause, when another client gets the place.
// errs.Exhausted (TOO_MANY_STREAMS).
func (s *revocationStreams) begin(ctx context.Context, serviceAccount, address string) (_ context.Context,
	end func(), err error) {
	if serviceAccount != "" {
		return s.services.Begin(ctx, serviceAccount)
	}
	return s.anybody.Begin(ctx, address)
}
