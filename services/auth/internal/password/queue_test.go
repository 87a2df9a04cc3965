package password

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/purserhq/purser/pkg/errs"
)

// flood starts n calls of a source that wait, and returns their errors.
func flood(t *testing.T, q *queue, source string, n int) chan error {
	t.Helper()
	ended := make(chan error, n)
	for range n {
		go func() {
			release, err := q.acquire(t.Context(), source, 1)
			if err == nil {
				<-time.After(40 * time.Millisecond) // about a hash, by the clock of synctest
				release()
			}
			ended <- err
		}()
	}
	return ended
}

func TestWhoFloodsTheQueueWaitsBehindThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(1)
		flooded := flood(t, q, "attacker", 90)
		synctest.Wait()
		for i := range 10 {
			begun := time.Now()
			release, err := q.acquire(t.Context(), fmt.Sprint("owner ", i), 1)
			if err != nil {
				t.Fatal(err)
			}
			release()
			if waited := time.Since(begun); waited > 80*time.Millisecond {
				t.Errorf("an owner waited %s", waited)
			}
		}
		for range 90 {
			if err := <-flooded; err != nil {
				t.Error(err) // each got its turn within the wait
			}
		}
	})
}

func TestAFullQueueDropsCallsOfWhoHasTheMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(1)
		flooded := flood(t, q, "attacker", 1000)
		synctest.Wait()
		if len(flooded) != 1000-maxWaitingPerSlot-1 { // one runs
			t.Errorf("%d of 1000 were dropped", len(flooded))
		}
		release, err := q.acquire(t.Context(), "owner", 1)
		if err != nil {
			t.Fatal(err)
		}
		release()
		refused := 0
		for range 1000 {
			if e := errs.As(<-flooded); e != nil {
				if refused++; e.Reason != "PASSWORD_HASHING_BUSY" || e.RetryAfter < time.Second {
					t.Error(e)
				}
			}
		}
		if refused != 1000-maxWaitingPerSlot {
			t.Errorf("%d were refused", refused)
		}
		if q.first.Len()+q.failing.Len() != 0 || q.free != 1 {
			t.Errorf("left %+v", q)
		}
	})
}

func TestACallThatGivesUpLeavesTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(2)
		release, err := q.acquire(t.Context(), "a", 5) // all there are
		if err != nil {
			t.Fatal(err)
		}
		soon, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := q.acquire(soon, "b", 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		begun := time.Now()
		if e := errs.As(second(q.acquire(t.Context(), "b", 1))); e == nil || time.Since(begun) != maxWait {
			t.Error(e, time.Since(begun))
		}
		release()
		if q.free != 2 || q.first.Len()+q.failing.Len() != 0 {
			t.Errorf("left %+v", q)
		}
	})
}

func second(_ func(), err error) error { return err }

// Each of fifty sources sends one wrong password after another.
func TestSourcesThatFailComeAfterThoseThatDoNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(1)
		ctx, stop := context.WithCancel(t.Context())
		var attackers sync.WaitGroup
		for i := range 50 {
			source := fmt.Sprint("attacker ", i)
			attackers.Go(func() {
				for ctx.Err() == nil {
					if release, err := q.acquire(ctx, source, 1); err == nil {
						<-time.After(100 * time.Millisecond) // a slow hash
						release()
						q.failed(source)
					}
				}
			})
		}
		<-time.After(30 * time.Second) // each has failed a few times
		for i := range 20 {
			begun := time.Now()
			release, err := q.acquire(t.Context(), fmt.Sprint("owner ", i), 1)
			if err != nil {
				t.Fatal(err)
			}
			if waited := time.Since(begun); waited > 300*time.Millisecond {
				t.Errorf("an owner waited %s", waited)
			}
			release()
			<-time.After(time.Second)
		}
		stop()
		attackers.Wait()
	})
}
