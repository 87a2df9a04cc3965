package rpc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/services/auth/internal/audit"
)

const (
	// maxWatchers bounds the streams of one replica, maxWatchersPerCaller those of one caller.
	maxWatchers, maxWatchersPerCaller = 64, 4
	// watchPoll is how often a stream asks the database for events, and whether its caller may still have them.
	watchPoll = 500 * time.Millisecond
	// watchHeartbeat is the longest time between two messages.
	watchHeartbeat = 5 * time.Second
	// watchSendTimeout is how long a message may wait for its reader.
	watchSendTimeout = 30 * time.Second
)

// errTokenExpired ends a stream whose access token has expired.
var errTokenExpired = errors.New("the access token has expired")

// WatchAuditEvents implements the RPC.
func (s *AdminServer) WatchAuditEvents(req *authv1.WatchAuditEventsRequest,
	stream grpc.ServerStreamingServer[authv1.WatchAuditEventsResponse]) (err error) {
	filter, err := auditFilter(req)
	if err != nil {
		return err
	}
	caller := authn.CallerFrom(stream.Context())
	ctx, stop := context.WithDeadlineCause(stream.Context(), caller.ExpiresAt, errTokenExpired)
	defer stop()
	ctx, end, err := s.watchers.Hold(ctx, caller.UserID.String(), "streams")
	if err != nil {
		return err
	}
	defer end(&err)
	w := watch{server: s, filter: filter, send: stream.Send, sendTimeout: watchSendTimeout}
	if w.at, err = s.cursor(ctx, req.GetAfterEventId()); err == nil {
		err = w.run(ctx)
	}
	if errors.Is(context.Cause(ctx), errTokenExpired) {
		return errs.Unauthenticated("TOKEN_EXPIRED", "the access token has expired; continue with a new one, after "+
			"last_event_id")
	}
	return err
}

// cursor returns the position to continue after.
func (s *AdminServer) cursor(ctx context.Context, eventID string) (audit.Position, error) {
	if eventID == "" {
		return audit.Position{}, nil
	}
	id, err := uuid.Parse(eventID)
	if err != nil {
		return audit.Position{}, errs.Invalid("after_event_id", "must be a UUID")
	}
	p, err := s.feed.Position(ctx, id)
	if errs.Is(err, errs.KindNotFound) {
		return p, errs.Invalid("after_event_id", fmt.Sprintf("must be the id of an event, got %s, which none has", id))
	}
	return p, err
}

// watch is one stream.
type watch struct {
	server      *AdminServer
	filter      audit.Filter
	send        func(*authv1.WatchAuditEventsResponse) error
	sendTimeout time.Duration
	at          audit.Position // up to which everything was sent
}

// run streams until ctx ends, or the caller may not have the events any more.
func (w *watch) run(ctx context.Context) error {
	tick := time.NewTicker(watchPoll)
	defer tick.Stop()
	for sent := (time.Time{}); ; {
		// Before each batch, so that nothing is sent to whom it may not be.
		if err := w.server.authority.Check(ctx); err != nil {
			return err
		}
		batch, err := w.server.feed.After(ctx, w.at, w.filter)
		if err != nil {
			return err
		}
		w.at = batch.Last
		if len(batch.Events) > 0 || time.Since(sent) >= watchHeartbeat {
			if err := w.deliver(ctx, batch); err != nil {
				return err
			}
			sent = time.Now()
		}
		if batch.More {
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// deliver sends a batch. While its reader does not take it, the stream still ends when the caller loses their
// authority; the batch is all that waits in memory.
func (w *watch) deliver(ctx context.Context, b audit.Batch) error {
	m := &authv1.WatchAuditEventsResponse{LastEventId: idText(b.Last.Event)}
	for _, e := range b.Events {
		m.Events = append(m.Events, auditEvent(e))
	}
	sent := make(chan error, 1)
	go func() { sent <- w.send(m) }() // ends with the stream, at the latest
	tick := time.NewTicker(watchPoll)
	defer tick.Stop()
	late := time.NewTimer(w.sendTimeout)
	defer late.Stop()
	for {
		select {
		case err := <-sent:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-late.C:
			return errs.Deadline("READER_TOO_SLOW", fmt.Sprintf("no message was read for %s; continue after "+
				"last_event_id of the last one", w.sendTimeout))
		case <-tick.C:
			if err := w.server.authority.Check(ctx); err != nil {
				return err
			}
		}
	}
}
