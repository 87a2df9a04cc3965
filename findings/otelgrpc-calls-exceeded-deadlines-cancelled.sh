#!/usr/bin/env bash
# Software:  otelgrpc v0.72.0 with grpc-go v1.85.0
# Expected:  a call that ends because its deadline has passed is DEADLINE_EXCEEDED in the server's metric of calls, as
#            its client is told.
# Observed:  most such calls whose handler returns the error of its context are CANCELLED in the server's metric, while
#            their clients have DEADLINE_EXCEEDED. An alert on exceeded deadlines by the server's metric hardly fires,
#            and a dashboard shows impatient callers.
# Cause:     the client resets the stream at its own deadline, which cancels the context in the server about when the
#            server's own timer for the same deadline would; whichever is first is the status that is measured.
# Care:      compare the time of the end with the deadline of the call before a CANCELLED is believed.
# Output:    the clients have DeadlineExceeded in 20 of 20 unary calls, the server's metric CANCELLED in 20
#            the clients have DeadlineExceeded in 20 of 20 streams, the server's metric CANCELLED in 20
# Exit code: 0 while more than half of the streams are CANCELLED; 1 when they aren't any more; 2 when it could not be
#            tried.
set -euo pipefail
dir=$(mktemp -d)
trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
cd "$dir"
cat > go.mod <<'MOD'
module example.com/finding

go 1.25

require (
	go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc v0.72.0
	go.opentelemetry.io/otel v1.47.0
	go.opentelemetry.io/otel/sdk/metric v1.47.0
	google.golang.org/grpc v1.85.0
)
MOD
cat > main.go <<'GO'
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}

// patient answers when its caller has gone.
type patient struct {
	healthpb.UnimplementedHealthServer
}

func (patient) Check(ctx context.Context, _ *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	<-ctx.Done()
	return nil, status.FromContextError(ctx.Err()).Err()
}

func (patient) Watch(_ *healthpb.HealthCheckRequest, s healthpb.Health_WatchServer) error {
	<-s.Context().Done()
	return status.FromContextError(s.Context().Err()).Err()
}

// calls is how many are made of each kind.
const calls = 20

// measured returns how many calls of a method the server has measured as CANCELLED, once it has measured all.
func measured(reader sdk.Reader, method string) uint64 {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		var all metricdata.ResourceMetrics
		check(reader.Collect(context.Background(), &all))
		var cancelled, seen uint64
		for _, scope := range all.ScopeMetrics {
			for _, m := range scope.Metrics {
				h, ok := m.Data.(metricdata.Histogram[float64])
				if !ok || m.Name != "rpc.server.call.duration" {
					continue
				}
				for _, p := range h.DataPoints {
					name, _ := p.Attributes.Value("rpc.method")
					code, _ := p.Attributes.Value("rpc.response.status_code")
					if name.AsString() != method {
						continue
					}
					if seen += p.Count; code.AsString() == "CANCELLED" {
						cancelled += p.Count
					}
				}
			}
		}
		if seen == calls {
			return cancelled
		}
	}
	check(fmt.Errorf("not all calls of %s were measured", method))
	return 0
}

func main() {
	reader := sdk.NewManualReader()
	server := grpc.NewServer(grpc.StatsHandler(otelgrpc.NewServerHandler(
		otelgrpc.WithMeterProvider(sdk.NewMeterProvider(sdk.WithReader(reader))))))
	healthpb.RegisterHealthServer(server, patient{})
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	go func() { _ = server.Serve(lis) }()
	defer server.Stop()
	conn, err := grpc.NewClient(lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	check(err)
	defer conn.Close()
	client := healthpb.NewHealthClient(conn)
	exceeded := func(call func(context.Context) error) (n int) {
		for range calls {
			ctx, stop := context.WithTimeout(context.Background(), 100*time.Millisecond)
			if status.Code(call(ctx)) == codes.DeadlineExceeded {
				n++
			}
			stop()
		}
		return n
	}
	const line = "the clients have DeadlineExceeded in %d of %d %s, the server's metric CANCELLED in %d\n"
	told := exceeded(func(ctx context.Context) error {
		_, err := client.Check(ctx, &healthpb.HealthCheckRequest{})
		return err
	})
	fmt.Printf(line, told, calls, "unary calls", measured(reader, "grpc.health.v1.Health/Check"))
	told = exceeded(func(ctx context.Context) error {
		stream, err := client.Watch(ctx, &healthpb.HealthCheckRequest{})
		if err == nil {
			_, err = stream.Recv()
		}
		return err
	})
	cancelled := measured(reader, "grpc.health.v1.Health/Watch")
	fmt.Printf(line, told, calls, "streams", cancelled)
	if cancelled <= calls/2 {
		os.Exit(1)
	}
}
GO
GOWORK=off GOFLAGS=-mod=mod go build -o finding . >/dev/null 2>&1 || exit 2
timeout 90 ./finding
