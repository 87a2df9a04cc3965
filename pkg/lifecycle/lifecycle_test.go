package lifecycle_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
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
		g := lifecycle.New(lifecycle.Config{Notice: 3 * time.Second, Drain: time.Minute},
			slog.New(slog.DiscardHandler))
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

func TestALoopThatFailsMakesTheProcessNotReady(t *testing.T) {
	var d diary
	g := lifecycle.New(lifecycle.Config{Notice: time.Hour, Drain: time.Minute}, slog.New(slog.DiscardHandler))
	g.OnNotReady(func() { d.add("not ready") })
	g.Serve("bad", func() error { return errors.New("boom") })
	g.Drain("bad", func(context.Context) { d.add("drain") })
	if err := g.Run(t.Context()); err == nil || err.Error() != "bad: boom" {
		t.Errorf("Run = %v", err)
	}
	if want := []string{"not ready", "drain"}; !slices.Equal(d.lines, want) {
		t.Errorf("order %v, want %v", d.lines, want)
	}
}

func TestWhatDoesNotEndIsNamedAndLeftBehind(t *testing.T) {
	for name, heedless := range map[string]func(*lifecycle.Group, <-chan struct{}){
		"a loop": func(g *lifecycle.Group, stuck <-chan struct{}) {
			g.Loop("heedless", func(context.Context) error { <-stuck; return nil })
		},
		"a drain": func(g *lifecycle.Group, stuck <-chan struct{}) {
			g.Serve("heedless", func() error { <-stuck; return nil })
			g.Drain("heedless", func(context.Context) { <-stuck })
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var d diary
				stuck := make(chan struct{})
				g := lifecycle.New(lifecycle.Config{Drain: 20 * time.Second}, slog.New(slog.DiscardHandler))
				heedless(g, stuck)
				g.Loop("heedful", func(ctx context.Context) error { <-ctx.Done(); return nil })
				g.Close("database", func() error { d.add("database"); return nil })
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				begun := time.Now()
				err := g.Run(ctx)
				if took := time.Since(begun); took != 21*time.Second {
					t.Errorf("took %s", took)
				}
				if err == nil || !strings.HasSuffix(err.Error(), "still running: heedless") {
					t.Errorf("Run = %v", err)
				}
				if !slices.Equal(d.lines, []string{"database"}) {
					t.Errorf("closed %v", d.lines)
				}
				close(stuck)
			})
		})
	}
}

func TestBuildingThatFailedHalfWayClosesWhatWasOpened(t *testing.T) {
	var d diary
	g := lifecycle.New(lifecycle.Config{}, slog.New(slog.DiscardHandler))
	g.Close("first", func() error { d.add("first"); return nil })
	g.Close("second", func() error { d.add("second"); return errors.New("stuck") })
	g.Close("listener", func() error { return net.ErrClosed })
	if err := g.CloseAll(); err == nil || err.Error() != "close second: stuck" {
		t.Errorf("CloseAll = %v", err)
	}
	if err := g.CloseAll(); err != nil || !slices.Equal(d.lines, []string{"second", "first"}) {
		t.Errorf("closed %v, then %v", d.lines, err)
	}
}
