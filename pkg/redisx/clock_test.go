package redisx

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
)

// fakeServer is on the other side of pipes, so that the clock is synctest's
// and times are exact. It answers each command, or takes it in silence.
type fakeServer struct {
	hung  atomic.Bool
	dials atomic.Int64
}

func (f *fakeServer) dial(context.Context, string, string) (net.Conn, error) {
	f.dials.Add(1)
	mine, theirs := net.Pipe()
	go f.serve(mine)
	return theirs, nil
}

func (f *fakeServer) serve(c net.Conn) {
	defer c.Close()
	buffer := make([]byte, 4096)
	for {
		n, err := c.Read(buffer)
		if err != nil {
			return
		}
		if f.hung.Load() {
			continue
		}
		answer := "+OK\r\n"
		if bytes.Contains(buffer[:n], []byte("hello")) {
			answer = "%0\r\n"
		}
		if _, err := io.WriteString(c, answer); err != nil {
			return
		}
	}
}

// TestAHungServerCostsTheBudgetAndThenNothing is the outage of
// TestAnOutageCostsLittleAndEndsByItself to the nanosecond.
func TestAHungServerCostsTheBudgetAndThenNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f fakeServer
		var log bytes.Buffer
		c := newNode(&redis.Options{Addr: "fake", Protocol: 2, Dialer: f.dial},
			Options{PoolSize: 20, Timeout: Budget, Log: slog.New(slog.NewTextHandler(&log, nil))})
		defer c.Close()
		call := func() (time.Duration, error) {
			begin := time.Now()
			ctx, cancel := Bounded(t.Context())
			defer cancel()
			err := c.Get(ctx, "k").Err()
			return time.Since(begin), Unavailable(err)
		}
		if took, err := call(); err != nil || took != 0 {
			t.Fatal(took, err)
		}
		f.hung.Store(true)
		for i := range 5 {
			if took, err := call(); !errors.Is(err, ErrUnavailable) || took > Budget {
				t.Fatalf("call %d took %s: %v", i, took, err)
			}
		}
		dials := f.dials.Load()
		for end := time.Now().Add(3 * probeInterval); time.Now().Before(end); {
			for range 10 {
				if took, err := call(); !errors.Is(err, errOpen) || took != 0 {
					t.Fatalf("with the breaker open a call took %s: %v", took, err)
				}
			}
			if f.dials.Load() != dials {
				t.Fatal("an open breaker dialled")
			}
			<-time.After(probeInterval)
			if took, err := call(); !errors.Is(err, ErrUnavailable) || errors.Is(err, errOpen) || took > Budget {
				t.Fatalf("the probe took %s: %v", took, err)
			}
			dials = f.dials.Load()
		}
		f.hung.Store(false)
		back := time.Now()
		for {
			if _, err := call(); err == nil {
				break
			}
			<-time.After(time.Millisecond)
		}
		if took := time.Since(back); took > probeInterval+time.Millisecond {
			t.Fatalf("back after %s", took)
		}
		if n := strings.Count(log.String(), "\n"); n != 2 {
			t.Fatalf("%d lines for one outage:\n%s", n, log.String())
		}
	})
}
