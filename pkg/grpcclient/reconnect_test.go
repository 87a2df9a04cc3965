package grpcclient_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/grpcclient"
)

// A service that is away is asked for often enough that it has its callers again
// soon after it is back.
func TestAnUnavailableServiceIsReconnectedSoon(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	attempts, done := make(chan struct{}, 16), make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := lis.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
			attempts <- struct{}{}
		}
	}()
	defer func() { _ = lis.Close(); <-done }()
	conn, err := grpcclient.Dial(grpcclient.Config{Addr: lis.Addr().String(), Plaintext: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.Connect()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	for n := range 4 { // by gRPC's own pace the fourth comes after four seconds
		select {
		case <-attempts:
		case <-ctx.Done():
			t.Fatalf("%d attempts within three seconds", n)
		}
	}
}
