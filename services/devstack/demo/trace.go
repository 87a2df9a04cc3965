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
	// uncachedTimeout bounds waiting for a valuation that is not from a cache. It exceeds the caches' TTL.
	uncachedTimeout  = 10 * time.Second
	uncachedInterval = time.Second
	// spanTimeout bounds waiting for a server's span, which may end after its answer has arrived.
	spanTimeout = time.Second
)

// ShowTrace values the portfolio until the answer is not from a cache, and prints the trace of that call as
// a waterfall.
func (r *Result) ShowTrace(ctx context.Context, e suite.Endpoints, ring *traces.Ring, w io.Writer) (err error) {
	c, err := Dial(e)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	ctx = traces.WithService(grpcclient.WithToken(ctx, r.Token), "demo")
	t, err := traceValuation(ctx, c, ring)
	for until := time.Now().Add(uncachedTimeout); err == nil && !uncached(t) && time.Now().Before(until); {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(uncachedInterval):
		}
		t, err = traceValuation(ctx, c, ring)
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

// traceValuation calls GetValuation once and returns its trace.
func traceValuation(ctx context.Context, c *Clients, ring *traces.Ring) (traces.Trace, error) {
	ctx, span := otel.Tracer("purser/devstack/demo").Start(ctx, "value portfolio")
	_, err := c.Portfolios.GetValuation(ctx, &portfoliov1.GetValuationRequest{})
	span.End()
	id := span.SpanContext().TraceID()
	t := ring.Trace(id)
	for until := time.Now().Add(spanTimeout); !t.Whole() && time.Now().Before(until); t = ring.Trace(id) {
		select {
		case <-ctx.Done():
			return t, ctx.Err()
		case <-time.After(spanTimeout / 50):
		}
	}
	return t, err
}

// uncached reports whether a trace is of a valuation that was computed, which reads wallet's database.
func uncached(t traces.Trace) bool {
	return t.Has("portfolio", "redis") && t.Has("wallet", "redis") && t.Has("wallet", "postgresql")
}
