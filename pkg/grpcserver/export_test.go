package grpcserver

import (
	"context"
	"time"

	"google.golang.org/grpc"
)

// Trace runs a call through the layers that New builds and returns their names
// in the order in which they are entered.
func Trace(ctx context.Context, cfg Config, d Deps, method string) ([]string, error) {
	v, err := newValidator()
	if err != nil {
		return nil, err
	}
	var entered []string
	layers := chain(cfg, d, &checks{validator: v})
	for i := range layers {
		inside := layers[i].run
		layers[i].run = func(ctx context.Context, c *call) error {
			entered = append(entered, layers[i].name)
			return inside(ctx, c)
		}
	}
	info := &grpc.UnaryServerInfo{FullMethod: method}
	_, err = unary(layers, d.Rules, &inFlight{})(ctx, nil, info, func(context.Context, any) (any, error) {
		entered = append(entered, "handler")
		return nil, nil //nolint:nilnil // nothing is asked of it
	})
	return entered, err
}

// Deadline runs inner under the deadline layer alone.
func Deadline(ctx context.Context, least, most time.Duration, streaming bool,
	inner func(context.Context) error) error {
	return deadlineLayer(least, most)(ctx, &call{streaming: streaming, handler: inner})
}

// Rate returns the rate limit layer alone, for calls of one identity each.
func Rate(perSecond float64, burst int) func(ctx context.Context, caller string) error {
	l := rateLayer(perSecond, burst)
	return func(ctx context.Context, caller string) error {
		return l(ctx, &call{method: "/x/Y", caller: caller, handler: func(context.Context) error { return nil }})
	}
}
