package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"go.opentelemetry.io/otel"

	"github.com/purserhq/purser/pkg/grpcclient"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/devstack/suite"
	"github.com/purserhq/purser/services/devstack/traces"
)

const (
	// freshWithin is how long the caches may keep a valuation, and some more.
	freshWithin = 10 * time.Second
	// freshEvery is how often a new one is asked for meanwhile.
	freshEvery = time.Second
	// endsWithin is how long after the answer a server's span may end.
	endsWithin = time.Second
)

// ShowTrace values the portfolio until that isn't answered from a cache, and
// prints the trace of the call.
func (r *Result) ShowTrace(ctx context.Context, e suite.Endpoints, ring *traces.Ring, w io.Writer) (err error) {
	c, err := Dial(e)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	ctx = traces.In(grpcclient.WithToken(ctx, r.Token), "demo")
	t, err := valued(ctx, c, ring)
	for until := time.Now().Add(freshWithin); err == nil && !fresh(t) && time.Now().Before(until); {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(freshEvery):
		}
		t, err = valued(ctx, c, ring)
	}
	if ctx.Err() != nil {
		return nil
	}
	if err == nil {
		_, err = fmt.Fprintf(w, "\n%s\n", t)
	}
	if err != nil {
		return fmt.Errorf("show trace: %w", err)
	}
	return nil
}

// valued calls GetValuation once and returns its trace.
func valued(ctx context.Context, c *Clients, ring *traces.Ring) (traces.Trace, error) {
	ctx, span := otel.Tracer("purser/devstack/demo").Start(ctx, "value portfolio")
	_, err := c.Portfolios.GetValuation(ctx, &portfoliov1.GetValuationRequest{})
	span.End()
	id := span.SpanContext().TraceID()
	t := ring.Trace(id)
	for until := time.Now().Add(endsWithin); !t.Whole() && time.Now().Before(until); t = ring.Trace(id) {
		select {
		case <-ctx.Done():
			return t, ctx.Err()
		case <-time.After(endsWithin / 50):
		}
	}
	return t, err
}

// fresh reports whether a trace is of a valuation that was worked out: not
// of Redis alone, but of wallet's database.
func fresh(t traces.Trace) bool {
	return t.Has("portfolio", "redis") && t.Has("wallet", "redis") && t.Has("wallet", "postgresql")
}
