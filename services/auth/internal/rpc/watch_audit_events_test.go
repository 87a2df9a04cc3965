package rpc

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/authority"
)

// endless is a feed that always has more, and a caller who may lose their authority.
type endless struct {
	read    atomic.Int64
	refused atomic.Bool
}

func (e *endless) Position(context.Context, uuid.UUID) (audit.Position, error) {
	return audit.Position{}, nil
}

func (e *endless) After(_ context.Context, p audit.Position, _ audit.Filter) (audit.Batch, error) {
	e.read.Add(1)
	return audit.Batch{Events: make([]audit.RecordedEvent, audit.MaxEventsPerBatch),
		Last: audit.Position{Number: p.Number + 1, Event: uuid.New()}, More: true}, nil
}

func (e *endless) Now(context.Context, authn.Caller) (authority.Held, error) {
	return authority.Held{}, nil
}

func (e *endless) Check(context.Context) error {
	if e.refused.Load() {
		return errs.Unauthenticated("SESSION_REVOKED", "")
	}
	return nil
}

// Who does not read holds one batch, and for no longer than a while, or until the authority is taken.
func TestAReaderWhoDoesNotReadIsLetGo(t *testing.T) {
	for name, tc := range map[string]struct {
		sendTimeout time.Duration
		refuse      bool
		reason      string
	}{
		"after a while":             {time.Millisecond, false, "READER_TOO_SLOW"},
		"with the authority, early": {time.Hour, true, "SESSION_REVOKED"},
	} {
		t.Run(name, func(t *testing.T) {
			e := &endless{}
			gone := make(chan struct{})
			defer close(gone)
			w := watch{server: &AdminServer{feed: e, authority: e}, sendTimeout: tc.sendTimeout,
				send: func(*authv1.WatchAuditEventsResponse) error {
					e.refused.Store(tc.refuse)
					<-gone
					return nil
				}}
			if got := errs.As(w.run(t.Context())); got == nil || got.Reason != tc.reason {
				t.Errorf("ended with %v", got)
			}
			if n := e.read.Load(); n != 1 {
				t.Errorf("read %d batches ahead", n)
			}
		})
	}
}
