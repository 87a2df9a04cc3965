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

// flight is a load and what is done with its result. Who joined before the load
// began has the result as soon as it is there; who joined later has to wait
// until it is known that no invalidation came between.
type flight[T any] struct {
	all     *flights[T]
	key     string
	cancel  context.CancelFunc
	waiters int
	begun   bool

	early chan struct{} // closed when first is set
	first T
	done  chan struct{} // closed when value and err are set
	value T
	err   error
}

// do runs fn, or joins the run under way for key. fn's context keeps the
// values of the first caller's and ends when nobody waits any more.
func (f *flights[T]) do(ctx context.Context, key string, fn func(context.Context, *flight[T]) (T, error)) (T, error) {
	f.mu.Lock()
	fl := f.m[key]
	if fl == nil {
		run, cancel := context.WithCancel(context.WithoutCancel(ctx))
		fl = &flight[T]{all: f, key: key, cancel: cancel, early: make(chan struct{}), done: make(chan struct{})}
		f.m[key] = fl
		go fl.run(run, fn)
	}
	fl.waiters++
	early := fl.early
	if fl.begun {
		early = nil
	}
	f.mu.Unlock()
	defer fl.leave()
	select {
	case <-early:
		return fl.first, nil
	case <-fl.done:
		return fl.value, fl.err
	case <-ctx.Done():
		var zero T
		return zero, ctx.Err()
	}
}

// errAborted is of a load that ended its goroutine, as a test's FailNow does.
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

// begin says that the load begins.
func (fl *flight[T]) begin() {
	fl.all.mu.Lock()
	defer fl.all.mu.Unlock()
	fl.begun = true
}

// publish gives the result of the first load to those who came before it began.
func (fl *flight[T]) publish(v T) {
	select {
	case <-fl.early: // those of a second load wait for the end
	default:
		fl.first = v
		close(fl.early)
	}
}

// guarded makes an error of a panic, where nobody's recover would see it.
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
	case <-fl.early: // the result is being stored; others may yet join
	default:
		fl.end()
	}
}

// end keeps later callers from joining, with the mutex held.
func (fl *flight[T]) end() {
	if fl.all.m[fl.key] == fl {
		delete(fl.all.m, fl.key)
	}
	fl.cancel()
}

// forget keeps later callers from joining what runs for keys.
func (f *flights[T]) forget(keys []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, key := range keys {
		delete(f.m, key)
	}
}
