package cache

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/testkit"
)

func TestAHolderThatDiesCostsItsWaitersTimeAndNoneAnAnswer(t *testing.T) {
	t.Parallel()
	s := testkit.Redis(t)
	const limit = 500 * time.Millisecond
	c := open[string](t, s, Options{LoadTimeout: limit})
	// What a process leaves behind that is killed between lease and fill.
	if err := client(t, s).Set(t.Context(), lease("k"), "the lease of the dead", limit).Err(); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			got, err := c.Get(t.Context(), "k", func(ctx context.Context) (string, error) {
				left, ok := ctx.Deadline()
				if !ok || time.Until(left) < limit/2 {
					t.Errorf("the load has %s left of its %s", time.Until(left), limit)
				}
				return "value", nil
			})
			if err != nil || got != "value" {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
	all.Wait()
}

func TestARefreshThatPanicsKillsNothing(t *testing.T) {
	s := testkit.Redis(t)
	var now atomic.Int64
	c := open[string](t, s, Options{SoftTTL: time.Second, Now: func() time.Time { return time.Unix(now.Load(), 0) }})
	get(t, c, "k", value("old"), "old")
	settle(t, c)
	now.Add(2)
	get(t, c, "k", func(context.Context) (string, error) { panic("in the background") }, "old")
	c.work.Wait() // for the refresh
	get(t, c, "k", value("new"), "old")
	c.work.Wait()
	get(t, c, "k", never[string](t), "new")
}

// TestALeaseIsGivenAgainToItsHolder is what a caller finds whose first reply
// was lost.
func TestALeaseIsGivenAgainToItsHolder(t *testing.T) {
	s := testkit.Redis(t)
	c := open[string](t, s, Options{})
	ask := func(token string) any {
		return c.run(t.Context(), &budget{patience}, 0, leaseScript, []string{"k"},
			constant(token, 60_000, ""))[0].value
	}
	for _, step := range []struct {
		token string
		want  lookupState
	}{{"a", leaseGranted}, {"a", leaseGranted}, {"b", leasedByOther}, {"a", leaseGranted}} {
		if got := ask(step.token); got != int64(step.want) {
			t.Fatalf("%s got %v, want %v", step.token, got, step.want)
		}
	}
	renewed := func(token string) any {
		return c.run(t.Context(), &budget{patience}, 0, renewScript, []string{"k"}, constant(token, 60_000))[0].value
	}
	if renewed("a") != int64(1) || renewed("b") != int64(0) {
		t.Fatal("a lease is its holder's to renew")
	}
	err := c.Invalidate(t.Context(), "k")
	if err != nil || renewed("a") != int64(0) || ask("b") != int64(leaseGranted) {
		t.Fatal("a renewal made a lost lease anew", err)
	}
}
