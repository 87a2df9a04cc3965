package redisx_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/pkg/testkit"
)

func TestABudgetContextEndsNeitherEarlierNorLaterThanItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		parent, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "value"))
		ctx, done := redisx.WithBudget(parent, 40*time.Millisecond)
		defer done()
		cancel()
		if end, ok := ctx.Deadline(); !ok || time.Until(end) != 40*time.Millisecond {
			t.Error(end, ok)
		}
		if ctx.Value(key{}) != "value" || ctx.Err() != nil {
			t.Error(ctx.Value(key{}), ctx.Err())
		}
		// One derived from it that would last longer ends with it all the same.
		longer, stop := context.WithTimeout(ctx, time.Hour)
		defer stop()
		begin := time.Now()
		<-longer.Done()
		if took := time.Since(begin); took != 40*time.Millisecond {
			t.Error(took)
		}
		if !errors.Is(ctx.Err(), context.DeadlineExceeded) || !errors.Is(longer.Err(), context.DeadlineExceeded) {
			t.Error(ctx.Err(), longer.Err())
		}
		<-ctx.Done()
	})
}

// A pool without a free connection is the one place where a command waits for
// its context and not for the network.
func TestACommandWithoutAConnectionEndsWithItsContext(t *testing.T) {
	s := testkit.Redis(t)
	c := open(t, redisx.Options{URL: s.URL(), PoolSize: 1, Timeout: time.Minute})
	if err := c.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	s.Pause()
	defer s.Resume()
	blocked := make(chan error, 1)
	go func() {
		ctx, done := redisx.WithBudget(t.Context(), 2*time.Second)
		defer done()
		blocked <- c.Get(ctx, "k").Err()
	}()
	testkit.Eventually(t, time.Minute, func() bool { return c.PoolStats().IdleConns == 0 })
	ctx, done := redisx.WithBudget(t.Context(), 50*time.Millisecond)
	defer done()
	begin := time.Now()
	if err := c.Get(ctx, "k").Err(); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > time.Second {
		t.Fatalf("waited for %s", took)
	}
	if err := testkit.Receive(t, blocked, time.Minute); err == nil {
		t.Fatal("a hung server answered")
	}
}

func FuzzKey(f *testing.F) {
	f.Add("a", "a}b")
	f.Add("", "%")
	f.Add("}", "%7D")
	f.Add("{", "{{}}")
	f.Fuzz(func(t *testing.T, a, b string) {
		one, two := redisx.Key("", a), redisx.Key("", b)
		if (one == two) != (a == b) {
			t.Fatalf("%q and %q have the tags %q and %q", a, b, one, two)
		}
		// The server hashes what is between the first { and the first } after
		// it, or everything when that is nothing.
		key := fmt.Sprintf("purser:%s:fence", one)
		begin := strings.IndexByte(key, '{') + 1
		end := begin + strings.IndexByte(key[begin:], '}')
		if tag := key[begin:end]; tag == "" || "{"+tag+"}" != one {
			t.Fatalf("of %q the server hashes %q", key, tag)
		}
	})
}
