#!/usr/bin/env bash
# Software:  grpc-go v1.85.0
# Expected:  a server's handler, or an interceptor around it, decides with which status a call ends, also after it
#            could not receive the request: what it returns is what the client gets and what an access log has.
# Observed:  when receiving fails, as for a message above the server's limit, the server sends a status of its own at
#            once. What the interceptor returns afterwards is dropped in silence: the log says one code, and the client
#            has another, without the details that the interceptor has added.
# Cause:     RecvMsg of the server's stream writes the status itself before it returns the error.
# Care:      what clients shall be told of bytes that are no message has to be decided before RecvMsg fails: in a codec
#            that doesn't fail, or at the client.
# Output:    the interceptor returned InvalidArgument "the message is larger than the service takes"
#            the client got ResourceExhausted "grpc: received message larger than max (102 vs. 10)"
# Exit code: 0 while the client gets another code than the interceptor returned; 1 when it isn't so any more; 2 when it
#            could not be tried.
set -euo pipefail
dir=$(mktemp -d)
trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
cd "$dir"
cat > go.mod <<'MOD'
module example.com/finding

go 1.25

require google.golang.org/grpc v1.85.0
MOD
cat > main.go <<'GO'
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}

func main() {
	returned := make(chan *status.Status, 1)
	own := func(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		if err := handler(srv, s); err == nil {
			return nil
		}
		mine := status.New(codes.InvalidArgument, "the message is larger than the service takes")
		returned <- mine
		return mine.Err()
	}
	server := grpc.NewServer(grpc.MaxRecvMsgSize(10), grpc.StreamInterceptor(own))
	healthpb.RegisterHealthServer(server, health.NewServer())
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	go func() { _ = server.Serve(lis) }()
	defer server.Stop()
	conn, err := grpc.NewClient(lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	check(err)
	defer conn.Close()
	ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
	defer stop()
	stream, err := healthpb.NewHealthClient(conn).Watch(ctx, &healthpb.HealthCheckRequest{
		Service: strings.Repeat("x", 100)})
	check(err)
	_, err = stream.Recv()
	got := status.Convert(err)
	select {
	case mine := <-returned:
		fmt.Printf("the interceptor returned %s %q\n", mine.Code(), mine.Message())
		fmt.Printf("the client got %s %q\n", got.Code(), got.Message())
		if got.Code() == mine.Code() {
			os.Exit(1)
		}
	case <-ctx.Done():
		check(ctx.Err())
	}
}
GO
GOWORK=off GOFLAGS=-mod=mod go build -o finding . >/dev/null 2>&1 || exit 2
timeout 90 ./finding
