package grpcserver

import (
	"context"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"
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
func Deadline(ctx context.Context, minTimeout, maxTimeout time.Duration, streaming bool,
	inner func(context.Context) error) error {
	return deadlineLayer(minTimeout, maxTimeout)(ctx, &call{streaming: streaming, handler: inner})
}

// Rate returns the rate limit layer alone, for calls of one identity each.
func Rate(perSecond float64, burst int) func(ctx context.Context, caller string) error {
	l := rateLayer(perSecond, burst)
	return func(ctx context.Context, caller string) error {
		return l(ctx, &call{method: "/x/Y", caller: caller, handler: func(context.Context) error { return nil }})
	}
}

// Cost is what a call allocates in a part of a server.
type Cost struct {
	Part          string
	Allocs, Bytes float64
}

// Costs returns the cost of each part of a server for a call of method with req, which all of them let pass: "measure"
// and each layer, outermost first, and "handler", which is what calls it.
func Costs(ctx context.Context, cfg Config, d Deps, method string, req any) ([]Cost, error) {
	v, err := newValidator()
	if err != nil {
		return nil, err
	}
	s := grpc.NewServer()
	service, name, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	s.RegisterService(&grpc.ServiceDesc{ServiceName: service, HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: name}}}, nil)
	registered := newMethods(func() *grpc.Server { return s }, d.Rules)
	m := newMeasurements(registered)
	info := &grpc.UnaryServerInfo{FullMethod: method}
	handler := func(context.Context, any) (any, error) { return req, nil }
	tag := &stats.RPCTagInfo{FullMethodName: method}
	header := &stats.InHeader{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}}
	end := &stats.End{BeginTime: time.Now(), EndTime: time.Now()}
	measured := cost(func() {
		ctx := m.TagRPC(ctx, tag)
		m.HandleRPC(ctx, header)
		m.HandleRPC(ctx, end)
	})
	measured.Part = "measure"
	all := []Cost{measured}
	var inside Cost // of the layers before
	for n, layers := 0, chain(cfg, d, &checks{validator: v}); n <= len(layers); n++ {
		intercept := unary(layers[:n], registered.rule, &inFlight{})
		var failed error
		c := cost(func() {
			if _, err := intercept(ctx, req, info, handler); err != nil {
				failed = err
			}
		})
		if failed != nil {
			return nil, failed
		}
		part := "handler"
		if n > 0 {
			part = layers[n-1].name
		}
		all = append(all, Cost{part, c.Allocs - inside.Allocs, c.Bytes - inside.Bytes})
		inside = c
	}
	return all, nil
}

// cost runs f some times alone on one processor.
func cost(f func()) Cost {
	const runs = 500
	c := Cost{Allocs: testing.AllocsPerRun(runs, f)}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range runs {
		f()
	}
	runtime.ReadMemStats(&after)
	c.Bytes = float64((after.TotalAlloc - before.TotalAlloc) / runs)
	return c
}
