package lock

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/purserhq/purser/pkg/redisx"
)

// scripted stands in for a Redis, so that the clock is synctest's and times are
// exact: it grants a lock and lets the test answer renewals and releases.
type scripted struct {
	acquire        func(context.Context) error // nil for always
	renew, release func(context.Context) (int64, error)
}

func (scripted) DialHook(redis.DialHook) redis.DialHook {
	return func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("there is no server") }
}

func (s scripted) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		var answer any
		var err error
		switch cmd.Args()[1] {
		case acquireScript.Hash():
			answer = []any{int64(1), "7", int64(0)}
			if s.acquire != nil {
				err = s.acquire(ctx)
			}
		case renewScript.Hash():
			answer, err = s.renew(ctx)
		case releaseScript.Hash():
			answer, err = s.release(ctx)
		}
		cmd.SetErr(err)
		cmd.(*redis.Cmd).SetVal(answer)
		return err
	}
}

func (s scripted) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func hang(ctx context.Context) (int64, error) { <-ctx.Done(); return 0, ctx.Err() }

func yes(context.Context) (int64, error) { return 1, nil }

func scriptedLocker(t *testing.T, s scripted, o Options) *Locker {
	c := redis.NewClient(&redis.Options{
		Addr: "scripted", MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	c.AddHook(s)
	t.Cleanup(func() { _ = c.Close() })
	return New(c, o)
}

func TestAHungRedisEndsTheContextATenthBeforeTheLeaseWhateverTheBudget(t *testing.T) {
	for _, budget := range []time.Duration{redisx.Budget, patience} {
		t.Run(fmt.Sprint(budget), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				renewals := []time.Time{time.Now()}
				l := scriptedLocker(t, scripted{release: hang, renew: func(ctx context.Context) (int64, error) {
					if len(renewals) > 3 {
						return hang(ctx)
					}
					renewals = append(renewals, time.Now())
					<-time.After(40 * time.Millisecond) // the lease counts from before it
					return 1, nil
				}}, Options{Budget: budget})
				g := tryFor(t, l, "x", ttl)
				ended := loss(t, g)()
				begin := time.Now()
				if err := g.Release(); !errors.Is(err, ErrUnavailable) {
					t.Error(err)
				}
				if took := time.Since(begin); took != 2*budget {
					t.Errorf("released within %s", took)
				}
				for i, at := range renewals[1:] {
					if after := at.Sub(renewals[i]); after > ttl/3 || after < ttl/3-ttl/30 {
						t.Errorf("renewed after %s", after)
					}
				}
				if after := ended.Sub(renewals[len(renewals)-1]); after != ttl-ttl/10 {
					t.Errorf("ended %s after the lease was last asked for", after)
				}
			})
		})
	}
}

func TestALostLeaseIsToldByTheNextRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := scriptedLocker(t, scripted{release: yes, renew: func(context.Context) (int64, error) {
			<-time.After(redisx.Budget - time.Millisecond) // a slow answer
			return 0, nil
		}}, Options{})
		begin := time.Now()
		if took := loss(t, tryFor(t, l, "x", ttl))().Sub(begin); took > ttl/3+redisx.Budget {
			t.Fatalf("told after %s", took)
		}
	})
}

func TestErrTellsTheLossAlsoWhenTheTimerIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := scriptedLocker(t, scripted{release: yes, renew: hang}, Options{Budget: time.Hour})
		g := tryFor(t, l, "x", ttl)
		g.renewal.Stop() // a timer that never gets to run
		<-time.After(ttl - ttl/10 - 1)
		if err := g.Context().Err(); err != nil {
			t.Fatal(err)
		}
		child, cancel := context.WithCancel(g.Context())
		defer cancel()
		<-time.After(time.Nanosecond)
		if err := g.Context().Err(); !errors.Is(err, context.Canceled) ||
			!errors.Is(context.Cause(g.Context()), ErrLost) {
			t.Fatal(err, context.Cause(g.Context()))
		}
		if !errors.Is(context.Cause(child), ErrLost) {
			t.Fatal("not told to what runs under it", context.Cause(child))
		}
	})
}

func TestARenewalThatOvertakesTheExpiryIsNoLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := scriptedLocker(t, scripted{release: yes, renew: hang}, Options{Budget: time.Hour})
		g := tryFor(t, l, "x", ttl)
		<-time.After(ttl / 2) // with the renewal under way
		g.mu.Lock()           // as it has it with its answer, just when the expiry is due
		<-time.After(time.Until(g.until))
		g.until = time.Now().Add(ttl)
		g.mu.Unlock()
		synctest.Wait()
		if err := g.Context().Err(); err != nil {
			t.Fatal(context.Cause(g.Context()))
		}
	})
}

func TestDoTellsALossThatOnlyTheReleaseFinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := scriptedLocker(t, scripted{renew: yes, release: func(context.Context) (int64, error) { return 0, nil }},
			Options{})
		boom := errors.New("boom")
		for _, own := range []error{nil, boom} {
			want := own
			if own == nil {
				want = ErrLost
			}
			if err := l.Do(t.Context(), "x", ttl, func(context.Context, *Guard) error { return own }); !errors.Is(err,
				want) {
				t.Errorf("%v instead of %v", err, want)
			}
		}
	})
}

func TestALockerMayBeClosedWhileOthersGiveUp(t *testing.T) {
	var all sync.WaitGroup
	l := scriptedLocker(t, scripted{acquire: func(context.Context) error { return redis.ErrPoolTimeout },
		release: yes}, Options{})
	for range 4 {
		all.Go(func() {
			for range 2000 {
				if _, err := l.Try(t.Context(), "x", ttl); !errors.Is(err, ErrUnavailable) {
					t.Error(err)
				}
			}
		})
	}
	for range 2000 {
		l.Close()
	}
	all.Wait()
	l.Close()
}
