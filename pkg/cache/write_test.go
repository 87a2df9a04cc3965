package cache

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/pkg/testkit"
)

// crashInWrite commits in Write and loses everything that comes after, while a
// reader comes by before the commit; it returns what a reader gets a while
// after. The reader's load is done, as it is when a slow one is superseded.
func crashInWrite(t *testing.T, instead swap) string {
	s := testkit.Redis(t)
	dying := client(t, s)
	a := New[string](swapped{dying, instead}, ns, Options{Budget: patience})
	b := open[string](t, s, Options{})
	get(t, b, "k", value("old"), "old")
	settle(t, b)
	err := a.Write(t.Context(), []string{"k"}, func() error {
		get(t, b, "k", value("old"), "old") // what is true before the commit
		settle(t, b)
		return dying.Close() // committed, and nothing of Write reaches Redis any more
	})
	if instead == nil && err != nil {
		t.Error(err) // the values were removed before
	}
	got, err := b.Get(t.Context(), "k", value("new"))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestAWriteThatCrashesAfterItsCommitLeavesNothingStale(t *testing.T) {
	if got := crashInWrite(t, nil); got != "new" {
		t.Fatalf("a later reader gets %q", got)
	}
	t.Run("control: with an invalidation afterwards alone it does", func(t *testing.T) {
		if got := crashInWrite(t, swap{beginScript.sha: beginNothing}); got != "old" {
			t.Fatalf("a later reader gets %q", got)
		}
	})
}

func TestAWriteKeepsFillsOutNoLongerThanItsTimeout(t *testing.T) {
	t.Parallel()
	s := testkit.Redis(t)
	c := open[string](t, s, Options{WriteTimeout: 200 * time.Millisecond})
	c.run(t.Context(), &budget{patience}, 0, beginScript, []string{"k"}, constant("of the dead", int64(200)))
	get(t, c, "k", value("v"), "v")
	testkit.Eventually(t, time.Minute, func() bool {
		loaded := false
		_, err := c.Get(t.Context(), "k", func(context.Context) (string, error) { loaded = true; return "v", nil })
		return err == nil && !loaded
	})
}

func TestWritesOfOneKeyMayNestAndOverlap(t *testing.T) {
	s := testkit.Redis(t)
	a, b := open[string](t, s, Options{}), open[string](t, s, Options{})
	err := a.Write(t.Context(), []string{"k"}, func() error {
		if err := b.Write(t.Context(), []string{"k"}, func() error { return nil }); err != nil {
			return err
		}
		get(t, b, "k", value("old"), "old") // the outer write hasn't committed
		settle(t, b)
		if n, err := client(t, s).Exists(t.Context(), at("k")).Result(); n != 0 || err != nil {
			t.Error("that is stored", n, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	get(t, b, "k", value("new"), "new")
	get(t, a, "k", never[string](t), "new")
	if n, err := client(t, s).Exists(t.Context(), beside(at("k"))[1:]...).Result(); n != 0 || err != nil {
		t.Fatal("something of the writes is left", n, err)
	}
}

func TestAWriteThatFailsOrPanicsEndsAllTheSame(t *testing.T) {
	s := testkit.Redis(t)
	c := open[string](t, s, Options{})
	boom := errors.New("boom")
	if err := c.Write(t.Context(), []string{"k"}, func() error { return boom }); !errors.Is(err, boom) {
		t.Fatal(err)
	}
	func() {
		defer func() {
			if recover() != "boom" {
				t.Error("the panic is lost")
			}
		}()
		_ = c.Write(t.Context(), []string{"k"}, func() error { panic("boom") })
	}()
	get(t, c, "k", value("v"), "v")
	get(t, c, "k", never[string](t), "v")
}

func TestAWriteLongerThanItsTimeoutIsNotSureToHaveInvalidated(t *testing.T) {
	s := testkit.Redis(t)
	c := open[string](t, s, Options{WriteTimeout: time.Millisecond})
	err := c.Write(t.Context(), []string{"k"}, func() error {
		testkit.Eventually(t, time.Minute, func() bool {
			return c.redis.(redis.UniversalClient).Exists(t.Context(),
				beside(at("k"))[2]).Val() == 0
		})
		s.Kill()
		return nil
	})
	if !errors.Is(err, ErrNotInvalidated) || !errors.Is(err, redisx.ErrUnavailable) {
		t.Fatal(err)
	}
}
