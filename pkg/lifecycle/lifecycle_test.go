package lifecycle_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/purserhq/purser/pkg/lifecycle"
)

type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) add(s string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, s)
}

func TestStoppingTellsCallersThenDrainsThenClosesInReverse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		g := lifecycle.New(lifecycle.Config{Notice: 3 * time.Second, Drain: time.Minute}, slog.New(slog.DiscardHandler))
		stop := make(chan struct{})
		begun := time.Now()
		g.OnNotReady(func() { d.add("not ready") })
		g.Serve("server", func() error { <-stop; return nil })
		g.Drain("server", func(context.Context) {
			if time.Since(begun) != 3*time.Second {
				t.Errorf("drained after %s, want the notice of 3s", time.Since(begun))
			}
			d.add("drain")
			close(stop)
		})
		g.Close("database", func() error { d.add("database"); return nil })
		g.Close("cache", func() error { d.add("cache"); return nil })
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := g.Run(ctx); err != nil {
			t.Fatal(err)
		}
		want := []string{"not ready", "drain", "cache", "database"}
		if !slices.Equal(d.lines, want) {
			t.Errorf("order %v, want %v", d.lines, want)
		}
	})
}

func TestALoopThatFailsStopsTheRest(t *testing.T) {
	boom := errors.New("boom")
	g := lifecycle.New(lifecycle.Config{Drain: time.Minute}, slog.New(slog.DiscardHandler))
	stop, closed := make(chan struct{}), false
	g.Serve("bad", func() error { return boom })
	g.Serve("good", func() error { <-stop; return nil })
	g.Drain("good", func(context.Context) { close(stop) })
	g.Close("x", func() error { closed = true; return nil })
	if err := g.Run(t.Context()); !errors.Is(err, boom) || !closed {
		t.Errorf("Run = %v, closed = %v; want boom and true", err, closed)
	}
}
