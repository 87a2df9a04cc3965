package grpcserver

import (
	"context"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/grpc/codes"
)

// errorCounter counts the calls that failed by a fault of the service or of what it
// depends on. Every code has its counter from the start, at zero, so that the first
// error is an increase.
type errorCounter struct {
	errors metric.Int64Counter
	codes  map[codes.Code]metric.MeasurementOption
}

func newErrorCounter() errorCounter {
	c := errorCounter{codes: map[codes.Code]metric.MeasurementOption{}}
	// An instrument that can't be made is a no-op one.
	c.errors, _ = otel.Meter("github.com/purserhq/purser/pkg/grpcserver").Int64Counter("rpc_server_errors_total",
		metric.WithDescription("Unary calls that failed by a fault of the service or of what it depends on."))
	for code, name := range map[codes.Code]string{
		codes.Unknown: "UNKNOWN", codes.DeadlineExceeded: "DEADLINE_EXCEEDED", codes.Internal: "INTERNAL",
		codes.Unavailable: "UNAVAILABLE", codes.DataLoss: "DATA_LOSS",
	} {
		c.codes[code] = metric.WithAttributeSet(attribute.NewSet(attribute.String("code", name)))
		c.errors.Add(context.Background(), 0, c.codes[code])
	}
	return c
}

// count counts a call with this code. A stream is not counted: it ends with
// UNAVAILABLE whenever its replica does.
func (e errorCounter) count(ctx context.Context, c *call, code codes.Code) {
	if label, counted := e.codes[code]; counted && !c.streaming {
		e.errors.Add(ctx, 1, label)
	}
}
