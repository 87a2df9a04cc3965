#!/usr/bin/env bash
# Software:  grpc-go v1.85.0
# Expected:  a stream whose reader is slow holds a few messages and a window of 64 KiB at either end: about the same
#            with messages of 34 KiB as with messages of 30 KiB.
# Observed:  each message above 32 KiB is held in a buffer of 1 MiB for as long as the reader is slow. Streams of
#            34 KiB take more than ten times the memory of streams of 30 KiB, and a bound by the messages' sizes is
#            wrong by as much.
# Cause:     the pool that a message is encoded into has buffers of 256 B, 4 KiB, 16 KiB, 32 KiB and 1 MiB, and nothing
#            between the last two (mem.DefaultBufferPool).
# Care:      keep the messages of long streams below 32 KiB, or give server and client a pool of their own.
# Output:    200 streams whose reader stands still, messages of 30 KiB: 0.3 MiB a stream
#            200 streams whose reader stands still, messages of 34 KiB: 4.2 MiB a stream
# Exit code: 0 while the second figure is more than 5 times the first; 1 when it isn't any more; 2 when it could not be
#            tried.
set -euo pipefail
dir=$(mktemp -d)
trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
cd "$dir"
cat > go.mod <<'MOD'
module example.com/finding

go 1.25

require (
	google.golang.org/grpc v1.85.0
	google.golang.org/protobuf v1.36.12
)
MOD
cat > main.go <<'GO'
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}

// heap is what is in use after a collection.
func heap() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapInuse) / (1 << 20)
}

const streams = 200

// held returns how many MiB a stream holds whose reader stands still.
func held(size int) float64 {
	message := &wrapperspb.BytesValue{Value: make([]byte, size)}
	var sent atomic.Int64
	send := func(_ any, s grpc.ServerStream) error {
		for {
			if err := s.SendMsg(message); err != nil {
				return err
			}
			sent.Add(1)
		}
	}
	desc := grpc.StreamDesc{StreamName: "Stream", ServerStreams: true, Handler: send}
	server := grpc.NewServer()
	server.RegisterService(&grpc.ServiceDesc{ServiceName: "finding.Service", HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{desc}}, struct{}{})
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	go func() { _ = server.Serve(lis) }()
	ctx, cancel := context.WithCancel(context.Background())
	before := heap()
	for range streams {
		conn, err := grpc.NewClient(lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		check(err)
		defer conn.Close()
		s, err := conn.NewStream(ctx, &desc, "/finding.Service/Stream")
		check(err)
		check(s.SendMsg(&emptypb.Empty{}))
		check(s.CloseSend())
		_, err = s.Header() // and nothing is read
		check(err)
	}
	for last := int64(-1); last != sent.Load(); time.Sleep(time.Second) {
		last = sent.Load()
	}
	after := heap()
	cancel()
	server.Stop()
	return (after - before) / streams
}

func main() {
	const line = "%d streams whose reader stands still, messages of %d KiB: %.1f MiB a stream\n"
	small := held(30 << 10)
	fmt.Printf(line, streams, 30, small)
	large := held(34 << 10)
	fmt.Printf(line, streams, 34, large)
	if large <= 5*small {
		os.Exit(1)
	}
}
GO
GOWORK=off GOFLAGS=-mod=mod go build -o finding . >/dev/null 2>&1 || exit 2
timeout 90 ./finding
