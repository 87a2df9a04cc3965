package cache

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
)

// flights lets callers in this process that miss one key share one load.
type flights[T any] struct {
	mu sync.Mutex
	m  map[string]*flight[T]
}

// flight is a load and the storing of its result. A caller that joined before the
// load started gets the result as soon as it is loaded; a caller that joined later
// waits until it was stored, which shows that no invalidation came in between.
type flight[T any] struct {
	all     *flights[T]
	key     string
	cancel  context.CancelFunc
	waiters int
	started bool // the load

	published chan struct{} // closed when loaded is set
	loaded    T
	done      chan struct{} // closed when value and err are set
	value     T
	err       error
}

// do runs fn, or joins the flight of key. fn's context has the values of the first
// caller's and ends when no caller waits any more.
func (f *flights[T]) do(ctx context.Context, key string, fn func(context.Context, *flight[T]) (T, error)) (T, error) {
	f.mu.Lock()
	fl := f.m[key]
	if fl == nil {
		run, cancel := context.WithCancel(context.WithoutCancel(ctx))
		fl = &flight[T]{all: f, key: key, cancel: cancel, published: make(chan struct{}), done: make(chan struct{})}
		f.m[key] = fl
		go fl.run(run, fn)
	}
	fl.waiters++
	published := fl.published
	if fl.started {
		published = nil // wait for done
	}
	f.mu.Unlock()
	defer fl.leave()
	select {
	case <-published:
		return fl.loaded, nil
	case <-fl.done:
		return fl.value, fl.err
	case <-ctx.Done():
		var zero T
		return zero, ctx.Err()
	}
}

// errAborted is the error of a load that ended its goroutine, as FailNow does.
var errAborted = errors.New("cache: the load ended its goroutine")

func (fl *flight[T]) run(ctx context.Context, fn func(context.Context, *flight[T]) (T, error)) {
	fl.err = errAborted // unless fn returns
	defer func() {
		fl.all.mu.Lock()
		defer fl.all.mu.Unlock()
		fl.end()
		close(fl.done)
	}()
	fl.value, fl.err = fn(ctx, fl)
}

// loadStarts records that the load starts.
func (fl *flight[T]) loadStarts() {
	fl.all.mu.Lock()
	defer fl.all.mu.Unlock()
	fl.started = true
}

// publish returns the result of the first load to the callers that joined before it
// started.
func (fl *flight[T]) publish(v T) {
	select {
	case <-fl.published: // the callers of a second load wait for done
	default:
		fl.loaded = v
		close(fl.published)
	}
}

// guarded returns a panic of fn as an error.
func guarded[T any](fn func() (T, error)) (value T, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("cache: panic: %v\n%s", r, debug.Stack())
		}
	}()
	return fn()
}

func (fl *flight[T]) leave() {
	fl.all.mu.Lock()
	defer fl.all.mu.Unlock()
	if fl.waiters--; fl.waiters > 0 {
		return
	}
	select {
	case <-fl.published: // the result is being stored; others may join
	default:
		fl.end()
	}
}

// end prevents further callers from joining. The caller holds the mutex.
func (fl *flight[T]) end() {
	if fl.all.m[fl.key] == fl {
		delete(fl.all.m, fl.key)
	}
	fl.cancel()
}

// forget prevents further callers from joining the flights of keys.
func (f *flights[T]) forget(keys []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, key := range keys {
		delete(f.m, key)
	}
}
