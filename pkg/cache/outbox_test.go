package cache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/faultproxy"
)

func database(t testing.TB) *testkit.DB {
	t.Helper()
	return testkit.Postgres(t, fstest.MapFS{"00001_cache.sql": {Data: []byte("-- +goose Up\n" + Schema +
		"CREATE TABLE things (v text);\nINSERT INTO things VALUES ('old');\n")}})
}

// serve sweeps in the background until the test ends.
func serve(t testing.TB, db *testkit.DB, url string, log *slog.Logger) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	o := NewOutbox(db.DB, dial(t, url, redisx.Budget), log)
	done.Go(func() {
		if err := o.Serve(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); done.Wait() })
}

func read(db *testkit.DB) func(context.Context) (v string, err error) {
	return func(ctx context.Context) (v string, err error) {
		err = db.Gorm(ctx).Raw("SELECT v FROM things").Scan(&v).Error
		return v, err
	}
}

// change commits "new", and whatever else is to go with it.
func change(t testing.TB, db *testkit.DB, with ...func(*gorm.DB) error) {
	t.Helper()
	err := postgres.InTx(t.Context(), db.DB, func(tx *gorm.DB) error {
		for _, f := range with {
			if err := f(tx); err != nil {
				return err
			}
		}
		return tx.Exec("UPDATE things SET v = 'new'").Error
	})
	if err != nil {
		t.Fatal(err)
	}
}

func notes(t testing.TB, db *testkit.DB) (n int) {
	t.Helper()
	if err := db.Gorm(t.Context()).Raw("SELECT count(*) FROM cache_invalidations").Scan(&n).Error; err != nil {
		t.Fatal(err)
	}
	return n
}

// swept is what the package promises of a sweep, with room for a busy machine.
const swept = 1500*time.Millisecond + 5*time.Second

// until reads until it gets "new" and returns how long that took.
func until(t testing.TB, c *Cache[string], db *testkit.DB) time.Duration {
	t.Helper()
	begin := time.Now()
	testkit.Eventually(t, swept, func() bool {
		v, err := c.Get(t.Context(), "k", read(db))
		if err != nil {
			t.Error(err)
		}
		return v == "new"
	})
	return time.Since(begin)
}

func TestWhatWasNotedIsInvalidatedThoughTheWriterCrashed(t *testing.T) {
	t.Parallel()
	db, s := database(t), testkit.Redis(t)
	serve(t, db, s.URL(), slog.New(slog.DiscardHandler))
	c := open[string](t, s, Options{})
	get(t, c, "k", read(db), "old")
	settle(t, c)
	change(t, db, func(tx *gorm.DB) error { return c.RecordInvalidation(tx, "k") }) // and no Invalidate
	testkit.Figure(t, "the old value was gone %s after the commit, which nobody told Redis of",
		until(t, c, db).Round(time.Millisecond))
	testkit.Eventually(t, swept, func() bool { return notes(t, db) == 0 })
}

func TestWithoutANoteACrashLeavesTheOldValue(t *testing.T) { // the control
	t.Parallel()
	db, s := database(t), testkit.Redis(t)
	serve(t, db, s.URL(), slog.New(slog.DiscardHandler))
	c := open[string](t, s, Options{TTL: 4 * time.Second})
	get(t, c, "k", read(db), "old")
	settle(t, c)
	begin := time.Now()
	change(t, db)
	took := until(t, c, db)
	if took < 2*time.Second && time.Since(begin) < 3*time.Second {
		t.Fatalf("the old value went without a note after %s", took)
	}
	testkit.Figure(t, "control: without the note it lives on to its TTL of 4s (%s)", took.Round(time.Millisecond))
}

// cutOff has Redis be away for a whole Write, its old value kept, and returns
// how long after its return the old value was still there.
func cutOff(t *testing.T, note bool) time.Duration {
	db, s := database(t), testkit.Redis(t)
	p := testkit.Proxy(t, fmt.Sprintf("127.0.0.1:%d", s.Port()))
	var said testkit.LogBuffer
	serve(t, db, p.Rewrite(s.URL()), slog.New(slog.NewTextHandler(&said, nil)))
	direct := open[string](t, s, Options{TTL: 6 * time.Second})
	get(t, direct, "k", read(db), "old")
	settle(t, direct)
	c := New[string](dial(t, p.Rewrite(s.URL()), redisx.Budget), ns, Options{})
	t.Cleanup(c.Close)
	p.ToServer(faultproxy.Fault{Blackhole: true})
	err := c.Write(t.Context(), []string{"k"}, func() error {
		change(t, db, func(tx *gorm.DB) error {
			if note {
				return c.RecordInvalidation(tx, "k")
			}
			return nil
		})
		return nil
	})
	if !errors.Is(err, ErrNotInvalidated) {
		t.Fatal(err)
	}
	if note {
		testkit.Eventually(t, time.Minute, func() bool { return strings.Contains(said.String(), "can't be swept") })
	}
	p.Heal()
	took := until(t, direct, db)
	if note {
		testkit.Eventually(t, swept, func() bool {
			return notes(t, db) == 0 &&
				strings.Contains(said.String(), "swept again")
		})
		if n := strings.Count(said.String(), "\n"); n != 2 {
			t.Errorf("%d lines:\n%s", n, said.String())
		}
	}
	return took
}

func TestWhatWasNotedIsInvalidatedOnceRedisIsBack(t *testing.T) {
	t.Parallel()
	testkit.Figure(t, "the old value was gone %s after Redis was back, which was away through the whole Write",
		cutOff(t, true).Round(time.Millisecond))
	t.Run("control: without the note it lives on", func(t *testing.T) {
		took := cutOff(t, false)
		testkit.Figure(t, "%s after", took.Round(time.Millisecond))
		if took < 3*time.Second {
			t.Fatalf("the old value went without a note after %s", took)
		}
	})
}

func TestTheNotesOfOneKeyMergeAndTheEarliestCounts(t *testing.T) {
	db, s := database(t), testkit.Redis(t)
	c := open[string](t, s, Options{})
	change(t, db, func(tx *gorm.DB) error { return c.RecordInvalidation(tx, "k") })
	var was, is time.Time
	age := func() {
		db.Gorm(t.Context()).Exec("UPDATE cache_invalidations SET noted_at = noted_at - interval '1 minute' WHERE " +
			"noted_at > now() - interval '10 seconds'")
	}
	age()
	db.Gorm(t.Context()).Raw("SELECT noted_at FROM cache_invalidations").Scan(&was)
	long := strings.Repeat("long", 10_000)
	for range 20 {
		change(t, db, func(tx *gorm.DB) error { return c.RecordInvalidation(tx, "k", "k", "l", "\x00\xff", long, "") })
		age()
	}
	if n := notes(t, db); n != 5 {
		t.Fatalf("%d notes", n)
	}
	db.Gorm(t.Context()).Raw("SELECT min(noted_at) FROM cache_invalidations").Scan(&is)
	if !was.Equal(is) || was.IsZero() {
		t.Fatal(was, is)
	}
	boom := errors.New("boom")
	err := postgres.InTx(t.Context(), db.DB, func(tx *gorm.DB) error {
		return errors.Join(c.RecordInvalidation(tx, "m"), boom)
	})
	if !errors.Is(err, boom) || notes(t, db) != 5 {
		t.Fatal("a note outlived its transaction", err)
	}
	if err := c.RecordInvalidation(db.Gorm(t.Context()), "k"); err == nil {
		t.Fatal("a note without a transaction")
	}
}

func TestWritersOfOneKeyDoNotWaitForEachOthersNotes(t *testing.T) {
	db, s := database(t), testkit.Redis(t)
	c := open[string](t, s, Options{})
	noted, commit := make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- postgres.InTx(t.Context(), db.DB, func(tx *gorm.DB) error {
			defer func() { close(noted); <-commit }()
			return c.RecordInvalidation(tx, "k")
		})
	}()
	testkit.Receive(t, noted, time.Minute)
	change(t, db, func(tx *gorm.DB) error { return c.RecordInvalidation(tx, "k") })
	close(commit)
	if err := testkit.Receive(t, done, time.Minute); err != nil || notes(t, db) != 2 {
		t.Fatal(err, notes(t, db))
	}
}

// old puts n notes of long ago into the table.
func old(t testing.TB, db *testkit.DB, n int) {
	t.Helper()
	for from := 0; from < n; from += 100_000 {
		err := db.Gorm(t.Context()).Exec(`INSERT INTO cache_invalidations (key, noted_at)
			SELECT convert_to('purser:test:thing:v1:{' || i || '}', 'UTF8'), now() - interval '1 month'
			FROM generate_series(?::int, ?::int) i`, from+1, min(from+100_000, n)).Error
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestABacklogIsSweptInBatchesBySeveralReplicas(t *testing.T) {
	n := testkit.Size(5_000, 300_000)
	db, s := database(t), testkit.Redis(t)
	old(t, db, n)
	c := open[string](t, s, Options{})
	get(t, c, fmt.Sprint(n), value("old"), "old")
	settle(t, c)
	var did atomic.Int64
	var wg sync.WaitGroup
	begin := time.Now()
	for range 3 {
		o := NewOutbox(db.DB, client(t, s), slog.New(slog.DiscardHandler))
		wg.Go(func() {
			testkit.Eventually(t, 5*time.Minute, func() bool {
				if err := o.sweep(t.Context()); err != nil && !errors.Is(err, redisx.ErrUnavailable) {
					t.Error(err)
				}
				did.Add(1)
				return notes(t, db) == 0
			})
		})
	}
	wg.Wait()
	took := time.Since(begin)
	get(t, c, fmt.Sprint(n), value("new"), "new")
	testkit.Figure(t, "%d noted keys swept by 3 replicas in %s, %d a second", n, took.Round(time.Millisecond),
		int(float64(n)/took.Seconds()))
}

func TestANoteThatCannotBeSweptKeepsNobodyWaiting(t *testing.T) {
	db, s := database(t), testkit.Redis(t)
	old(t, db, 2*sweepBatchSize)
	raw := client(t, s)
	// ZREM of what is no sorted set fails for ever.
	if err := raw.Set(t.Context(), beside(at("1"))[2], "not a sorted set", 0).Err(); err != nil {
		t.Fatal(err)
	}
	o := NewOutbox(db.DB, raw, slog.New(slog.DiscardHandler))
	testkit.Eventually(t, time.Minute, func() bool {
		err := o.sweep(t.Context())
		return err != nil && notes(t, db) == 1
	})
}
