package cache

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/purserhq/purser/pkg/deadline"
	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/pkg/testkit"
)

// pretend is a Redis on the virtual clock: it answers each round trip after
// latency, or when nobody waits any more, with what reply says of a command.
type pretend struct {
	latency func() time.Duration
	reply   func(args []any) (any, error)
}

func (p pretend) DialHook(next redis.DialHook) redis.DialHook { return next }

func (p pretend) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { return p.answer(ctx, cmd) }
}

func (p pretend) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { return p.answer(ctx, cmds...) }
}

func (p pretend) answer(ctx context.Context, cmds ...redis.Cmder) (first error) {
	err := deadline.Pause(ctx, p.latency())
	for _, cmd := range cmds {
		var value any
		failure := err
		if err == nil {
			value, failure = p.reply(cmd.Args())
		}
		cmd.(*redis.Cmd).SetVal(value)
		cmd.SetErr(failure)
		if first == nil {
			first = failure
		}
	}
	return first
}

func (p pretend) client(t testing.TB) redis.UniversalClient {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	c.AddHook(p)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// empty is a Redis that has nothing and grants every lease.
func empty(args []any) (any, error) {
	if args[0] == "get" {
		return nil, redis.Nil
	}
	return int64(leaseGranted), nil
}

// operations are what may not take longer than the budget, apart from the
// source, which here takes no time.
func operations(t *testing.T, c *Cache[string]) map[string]func() {
	var many []string
	for i := range 3 * maxKeysPerTrip {
		many = append(many, strconv.Itoa(i))
	}
	return map[string]func(){
		"Get": func() { get(t, c, "k", value("v"), "v") },
		"a Get whose load fails": func() {
			_, err := c.Get(t.Context(), "k", func(context.Context) (string, error) { return "", context.Canceled })
			if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		},
		"GetMany": func() {
			got, err := c.GetMany(t.Context(), many, echo)
			all(t, got, err, many...)
		},
		"Invalidate": func() { _ = c.Invalidate(t.Context(), many...) },
		"Write": func() {
			err := c.Write(t.Context(), []string{"k"}, func() error { return nil })
			if err != nil && !errors.Is(err, ErrNotInvalidated) {
				t.Error(err)
			}
		},
	}
}

func TestAnOperationNeverAddsMoreThanItsBudget(t *testing.T) {
	latencies := map[string]func() time.Duration{
		"none":   func() time.Duration { return 0 },
		"hangs":  func() time.Duration { return time.Hour },
		"random": func() time.Duration { return rand.N(30 * time.Millisecond) },
	}
	for ms := 1; ms <= 60; ms += testkit.Size(9, 3) {
		latencies[strconv.Itoa(ms)+" ms"] = func() time.Duration { return time.Duration(ms) * time.Millisecond }
	}
	for name, latency := range latencies {
		t.Run(name, func(t *testing.T) {
			client := pretend{latency, empty}.client(t)
			synctest.Test(t, func(t *testing.T) {
				c := New[string](client, ns, Options{})
				for what, do := range operations(t, c) {
					for range 4 {
						begin := time.Now()
						do()
						if took := time.Since(begin); took > redisx.Budget {
							t.Errorf("%s took %s", what, took)
						}
						settle(t, c)
					}
				}
			})
		})
	}
}

// TestEachStepWithItsOwnTimeAddsUp is the control of the test above.
func TestEachStepWithItsOwnTimeAddsUp(t *testing.T) {
	client := pretend{func() time.Duration { return 40 * time.Millisecond }, empty}.client(t)
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		for range 3 { // read, lease, store
			one(t.Context(), client, &budget{redisx.Budget}, 0, "get", "k")
		}
		if took := time.Since(begin); took <= redisx.Budget {
			t.Errorf("three steps took %s", took)
		}
	})
}

func TestWaitingForAnotherEndsAndTheSilenceOfRedisMeanwhileIsBounded(t *testing.T) {
	answers := 0
	client := pretend{
		func() time.Duration {
			if answers++; answers > 20 {
				return time.Hour // Redis hangs while the other loads
			}
			return time.Millisecond
		},
		func(args []any) (any, error) {
			if args[0] == "get" {
				return nil, redis.Nil
			}
			return int64(leasedByOther), nil
		},
	}.client(t)
	synctest.Test(t, func(t *testing.T) {
		c := New[string](client, ns, Options{LoadTimeout: time.Second})
		begin := time.Now()
		get(t, c, "k", value("v"), "v")
		if took := time.Since(begin); took > 20*(time.Millisecond+3*maxPollInterval/2)+redisx.Budget {
			t.Errorf("a hang while waiting cost %s", took)
		}
		answers = -1 << 20 // Redis is well and the other never ends
		begin = time.Now()
		get(t, c, "k", value("v"), "v")
		if took := time.Since(begin); took > time.Second+redisx.Budget {
			t.Errorf("waited %s", took)
		}
	})
}

func TestALongListIsCachedPartByPartThoughRedisIsSlow(t *testing.T) {
	stored := map[string]bool{}
	client := pretend{
		func() time.Duration { return 2 * time.Millisecond },
		func(args []any) (any, error) {
			switch {
			case args[0] == "get":
				return nil, redis.Nil
			case args[1] == fillScript.sha:
				stored[args[3].(string)] = true
			}
			return int64(leaseGranted), nil
		},
	}.client(t)
	synctest.Test(t, func(t *testing.T) {
		var many []string
		for i := range 30 * maxKeysPerTrip { // 60 ms to look at
			many = append(many, strconv.Itoa(i))
		}
		begin := time.Now()
		got, err := New[string](client, ns, Options{}).GetMany(t.Context(), many, echo)
		all(t, got, err, many...)
		if took := time.Since(begin); took > redisx.Budget || len(stored) < maxKeysPerTrip {
			t.Errorf("%d stored in %s", len(stored), took)
		}
	})
}
