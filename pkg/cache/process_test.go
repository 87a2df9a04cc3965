package cache

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/deadline"
	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/pkg/testkit"
)

var programs = map[string]func(context.Context, []string) error{"crowd": crowd, "holder": holder}

// crowd is 200 callers of one cold key, all at once when "go" is pushed. Their
// loads count themselves in Redis.
func crowd(ctx context.Context, args []string) error {
	client, err := redisx.New(redisx.Options{URL: args[0], Timeout: patience, PoolSize: 200})
	if err != nil {
		return err
	}
	starter, err := redisx.New(redisx.Options{URL: args[0], Subscriber: true})
	if err != nil {
		return err
	}
	instead := swap{}
	if args[1] == "without the lease" {
		instead[leaseScript.sha] = leaseRegardless
	}
	c := New[string](swapped{client, instead}, ns, Options{Budget: patience, LoadTimeout: patience})
	c.leaseDuration = patience // a machine that is too busy to renew within 0.9 s is another matter
	fmt.Println("ready")
	if err := starter.BLPop(ctx, 0, "go").Err(); err != nil {
		return err
	}
	failures := make([]error, 200)
	var wg sync.WaitGroup
	for i := range failures {
		wg.Go(func() {
			got, err := c.Get(ctx, "k", func(ctx context.Context) (string, error) {
				err := client.Incr(ctx, "loads").Err()
				return "v", errors.Join(err, deadline.Pause(ctx, 200*time.Millisecond))
			})
			if failures[i] = err; got != "v" {
				failures[i] = errors.Join(err, fmt.Errorf("got %q", got))
			}
		})
	}
	wg.Wait()
	fmt.Println("done")
	return errors.Join(failures...)
}

// loads has three processes of 200 callers read one cold key.
func loads(t *testing.T, how string) int {
	s := testkit.Redis(t)
	children := make([]*testkit.Child, 3)
	for i := range children {
		children[i] = testkit.Spawn(t, "crowd", s.URL(), how)
	}
	for _, c := range children {
		if line := c.Line(time.Minute); line != "ready" {
			t.Fatal(line)
		}
	}
	raw := client(t, s)
	if err := raw.RPush(t.Context(), "go", 1, 2, 3).Err(); err != nil {
		t.Fatal(err)
	}
	for _, c := range children {
		if line := c.Line(time.Minute); line != "done" {
			t.Fatal(line)
		}
		if err := c.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	n, err := raw.Get(t.Context(), "loads").Int()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestAColdKeyIsLoadedOnceByThreeProcesses(t *testing.T) {
	n := loads(t, "")
	testkit.Figure(t, "%d load for 200 callers in each of 3 processes", n)
	if n != 1 {
		t.Fatalf("%d loads", n)
	}
	t.Run("control: without the lease there are more", func(t *testing.T) {
		n := loads(t, "without the lease")
		testkit.Figure(t, "%d loads", n)
		if n < 3 {
			t.Fatalf("%d loads", n)
		}
	})
}

// holder takes the lease of "k" and loads until it is killed.
func holder(ctx context.Context, args []string) error {
	client, err := redisx.New(redisx.Options{URL: args[0], Timeout: patience})
	if err != nil {
		return err
	}
	_, err = New[string](client, ns, Options{Budget: patience, LoadTimeout: time.Hour}).Get(ctx, "k",
		func(ctx context.Context) (string, error) {
			fmt.Println("loading")
			<-ctx.Done()
			return "", ctx.Err()
		})
	return err
}

func TestTheLeaseOfAProcessThatWasKilledEndsWithinASecondAndThatOfALiveOneDoesNot(t *testing.T) {
	t.Parallel()
	s := testkit.Redis(t)
	h := testkit.Spawn(t, "holder", s.URL())
	h.Line(time.Minute)
	c := open[string](t, s, Options{LoadTimeout: time.Minute})
	loading, answer := make(chan struct{}), make(chan error, 1)
	go func() {
		_, err := c.Get(t.Context(), "k", func(context.Context) (string, error) { close(loading); return "v", nil })
		answer <- err
	}()
	if err := deadline.Pause(t.Context(), 3*leaseDuration/2); err != nil {
		t.Fatal(err)
	}
	select {
	case <-loading:
		t.Fatal("loaded while another does")
	default:
	}
	h.Kill()
	begin := time.Now()
	if err := testkit.Receive(t, answer, time.Minute); err != nil {
		t.Fatal(err)
	}
	testkit.Figure(t, "a waiter took over %s after the holder was killed", time.Since(begin).Round(time.Millisecond))
	if took := time.Since(begin); took > leaseDuration+noise {
		t.Fatalf("after %s", took)
	}
}
