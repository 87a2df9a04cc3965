package cache

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// flights lets callers in this process that miss one key share one load.
type flights[V any] struct {
	mu sync.Mutex
	m  map[string]*flight[V]
}

type flight[V any] struct {
	done    chan struct{}
	value   V
	err     error
	waiters int
	cancel  context.CancelFunc
}

// do runs fn, or joins the run under way for key. fn's context keeps the
// values of the first caller's and ends when nobody waits any more.
func (f *flights[V]) do(ctx context.Context, key string, limit time.Duration, fn func(context.Context) (V, error)) (V, error) {
	f.mu.Lock()
	fl := f.m[key]
	if fl == nil {
		run, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
		fl = &flight[V]{done: make(chan struct{}), cancel: cancel}
		if f.m == nil {
			f.m = map[string]*flight[V]{}
		}
		f.m[key] = fl
		go f.run(run, key, fl, fn)
	}
	fl.waiters++
	f.mu.Unlock()
	defer f.leave(key, fl)
	select {
	case <-fl.done:
		return fl.value, fl.err
	case <-ctx.Done():
		var zero V
		return zero, ctx.Err()
	}
}

func (f *flights[V]) run(ctx context.Context, key string, fl *flight[V], fn func(context.Context) (V, error)) {
	defer func() {
		f.forget(key, fl)
		close(fl.done)
		fl.cancel()
	}()
	fl.value, fl.err = guarded(func() (V, error) { return fn(ctx) })
}

// guarded makes an error of a panic, where nobody's recover would see it.
func guarded[T any](fn func() (T, error)) (value T, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("cache: load panicked: %v\n%s", r, debug.Stack())
		}
	}()
	return fn()
}

func (f *flights[V]) leave(key string, fl *flight[V]) {
	f.mu.Lock()
	fl.waiters--
	last := fl.waiters == 0
	if last && f.m[key] == fl {
		delete(f.m, key)
	}
	f.mu.Unlock()
	if last {
		fl.cancel()
	}
}

// forget keeps later callers from joining fl, or, with nil, whatever runs.
func (f *flights[V]) forget(key string, fl *flight[V]) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl == nil || f.m[key] == fl {
		delete(f.m, key)
	}
}
