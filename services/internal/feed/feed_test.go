package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/pkg/testkit"
)

func TestMain(m *testing.M) {
	testkit.Children(map[string]func(context.Context, []string) error{"writer": writer, "reader": reader})
	testkit.Main(m)
}

// timeout is how long a test waits for what has to happen.
const timeout = time.Minute

// database has the feed, and a counter for each owner, which is what changes.
func database(t *testing.T) *testkit.DB {
	t.Helper()
	return testkit.Postgres(t, fstest.MapFS{"00001_test.sql": {Data: []byte("-- +goose Up\n" + Schema + `
		CREATE TABLE counters (owner_id uuid PRIMARY KEY, n bigint NOT NULL);
		CREATE TABLE seen (place bigint GENERATED ALWAYS AS IDENTITY, owner_id uuid, n bigint,
			PRIMARY KEY (owner_id, n));
		CREATE TABLE reader (cursor text NOT NULL);
		INSERT INTO reader VALUES ('');
	`)}})
}

// count makes a change of an owner: the next number. meanwhile is what else its transaction does.
func count(ctx context.Context, db *postgres.DB, owner uuid.UUID, meanwhile func(tx *gorm.DB) error) error {
	return postgres.InTx(ctx, db, func(tx *gorm.DB) error {
		var n int64
		err := tx.Raw(`INSERT INTO counters VALUES (?, 1) ON CONFLICT (owner_id) DO UPDATE SET n = counters.n + 1
			RETURNING n`, owner).Scan(&n).Error
		if err != nil {
			return err
		}
		if err := Append(tx, Change{Owner: owner, Kind: "COUNTED", Subject: owner, Version: n}); err != nil {
			return err
		}
		return meanwhile(tx)
	})
}

func nothing(*gorm.DB) error { return nil }

// replica runs a feed until the test ends.
func replica(t *testing.T, db *postgres.DB, redisURL string) *Feed {
	t.Helper()
	var client redis.UniversalClient
	if redisURL != "" {
		c, err := redisx.New(redisx.Options{URL: redisURL})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		client = c
	}
	f := New(db, client, "test", slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() { _ = f.Run(ctx) })
	t.Cleanup(func() { stop(); running.Wait() })
	return f
}

// naive is what a feed would be that goes by the ids, which are given before the commit.
func naive(t *testing.T, db *postgres.DB, after int64) (ids []int64) {
	t.Helper()
	err := db.Gorm(context.WithoutCancel(t.Context())).
		Raw("SELECT id FROM changes WHERE id > ? ORDER BY id", after).Scan(&ids).Error
	if err != nil {
		t.Error(err)
	}
	return ids
}

// errEnough ends a Watch.
var errEnough = fmt.Errorf("enough")

// take returns the next n changes after a cursor, or more, and the cursor after them.
func take(t *testing.T, f *Feed, from string, filter Filter, n int) (changes []Change, cursor string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	err := f.Watch(ctx, from, filter, func(c []Change, at string) error {
		if changes, cursor = append(changes, c...), at; len(changes) >= n {
			return errEnough
		}
		return nil
	})
	if err != errEnough { //nolint:errorlint // Watch returns it as it is
		t.Fatalf("%v after %d of %d changes", err, len(changes), n)
	}
	return changes, cursor
}

func versions(changes []Change) (v []int64) {
	for _, c := range changes {
		v = append(v, c.Version)
	}
	return v
}

// A transaction that takes its id first commits last: the feed has its change, and who goes by ids misses it.
func TestAChangeThatIsCommittedLateIsNotMissed(t *testing.T) {
	db := database(t)
	f := replica(t, db.DB, "")
	_, start := take(t, f, "", Filter{}, 0)
	slow, quick := uuid.New(), uuid.New()
	appended, commit := make(chan struct{}), make(chan struct{})
	var late sync.WaitGroup
	late.Go(func() {
		err := count(t.Context(), db.DB, slow, func(*gorm.DB) error { close(appended); <-commit; return nil })
		if err != nil {
			t.Error(err)
		}
	})
	<-appended
	if err := count(t.Context(), db.DB, quick, nothing); err != nil {
		t.Fatal(err)
	}
	first, cursor := take(t, f, start, Filter{}, 1) // although a transaction is open
	byID := naive(t, db.DB, 0)
	if len(first) != 1 || first[0].Owner != quick || len(byID) != 1 {
		t.Fatalf("%v, %v", first, byID)
	}
	close(commit)
	late.Wait()
	if missed := naive(t, db.DB, byID[0]); len(missed) != 0 {
		t.Errorf("the control has found %v", missed)
	}
	second, _ := take(t, f, cursor, Filter{}, 1)
	if len(second) != 1 || second[0].Owner != slow {
		t.Errorf("%v", second)
	}
}

// 64 writers commit after up to 30 ms, or roll back, beside transactions that stay open for long. Readers of two
// replicas follow by cursors, reconnecting at random; Redis ends half-way.
func TestEveryChangeIsReadOnceAndThoseOfAnOwnerInOrder(t *testing.T) {
	const writers, owners = 64, 8
	each := testkit.Size(6, 60)
	db := database(t)
	server := testkit.Redis(t).URL()
	proxy := testkit.Proxy(t, server)
	redisURL := proxy.Rewrite(server)
	replicas := []*Feed{replica(t, db.DB, redisURL), replica(t, db.DB, redisURL)}
	_, start := take(t, replicas[0], "", Filter{}, 0)

	ids := make([]uuid.UUID, owners)
	for i := range ids {
		ids[i] = uuid.New()
	}
	var committed, rolledBack atomic.Int64
	var writing, long, others sync.WaitGroup
	half := make(chan struct{})
	for range 3 { // long transactions, each of an owner of its own
		opened := make(chan struct{})
		long.Go(func() {
			err := count(t.Context(), db.DB, uuid.New(), func(*gorm.DB) error { close(opened); <-half; return nil })
			if err != nil {
				t.Error(err)
			}
			committed.Add(1)
		})
		<-opened
	}
	for w := range writers {
		writing.Go(func() {
			for i := range each {
				if w == 0 && i == each/2 {
					proxy.Close() // all connections to Redis end, and no new one is possible
					close(half)
				}
				err := count(t.Context(), db.DB, ids[rand.IntN(owners)], func(tx *gorm.DB) error {
					if rand.IntN(10) == 0 {
						return errEnough
					}
					return tx.Exec("SELECT pg_sleep(random() * 0.03)").Error
				})
				switch {
				case err == nil:
					committed.Add(1)
					replicas[w%2].Wake()
				case errors.Is(err, errEnough):
					rolledBack.Add(1)
				default:
					t.Error(err)
				}
			}
		})
	}
	var done atomic.Bool
	lost := 0
	others.Go(func() { // the control
		last, found := int64(0), 0
		for end := false; !end; {
			end = done.Load()
			for _, id := range naive(t, db.DB, last) {
				last, found = id, found+1
			}
		}
		lost = int(committed.Load()) - found
	})
	read := make([][]Change, 4)
	ctx, stop := context.WithTimeout(t.Context(), 5*timeout)
	defer stop()
	for r := range read {
		others.Go(func() {
			cursor := start
			for ctx.Err() == nil && (!done.Load() || len(read[r]) < int(committed.Load())) {
				limited, cancel := context.WithTimeout(ctx, time.Second)
				err := replicas[rand.IntN(2)].Watch(limited, cursor, Filter{}, func(c []Change, at string) error {
					read[r], cursor = append(read[r], c...), at
					if rand.IntN(5) == 0 || done.Load() && len(read[r]) >= int(committed.Load()) {
						return errEnough
					}
					return nil
				})
				cancel()
				if err != errEnough && limited.Err() == nil { //nolint:errorlint // as it is
					t.Error(err)
					return
				}
			}
		})
	}
	writing.Wait()
	long.Wait()
	done.Store(true)
	others.Wait()
	for r, all := range read {
		if len(all) != int(committed.Load()) {
			t.Errorf("reader %d has %d of %d changes", r, len(all), committed.Load())
		}
		last := map[uuid.UUID]int64{}
		for _, c := range all {
			if c.Version != last[c.Owner]+1 {
				t.Fatalf("reader %d has change %d of an owner after %d", r, c.Version, last[c.Owner])
			}
			last[c.Owner] = c.Version
		}
		if !slices.EqualFunc(all, read[0], func(a, b Change) bool { return a.Number == b.Number }) {
			t.Errorf("reader %d has another order than reader 0", r)
		}
	}
	if lost == 0 {
		t.Error("the control has lost nothing: the writers don't overlap")
	}
	testkit.Figure(t, "%d changes by %d writers (%d rolled back), 4 readers on 2 replicas, Redis away for the second "+
		"half: 0 lost, each owner in order; a cursor of ids lost %d", committed.Load(), writers, rolledBack.Load(),
		lost)
}

// From the commit on one replica to the stream of another.
func TestTheDelayFromTheCommitToAStreamOfAnotherReplica(t *testing.T) {
	db := database(t)
	url := testkit.Redis(t).URL()
	here, there := replica(t, db.DB, url), replica(t, db.DB, url)
	_, cursor := take(t, there, "", Filter{}, 0)
	owner := uuid.New()
	heard := make(chan time.Time)
	ctx, stop := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	watching.Go(func() {
		_ = there.Watch(ctx, cursor, Filter{Owner: owner}, func(c []Change, _ string) error {
			for range c {
				select {
				case heard <- time.Now():
				case <-ctx.Done():
				}
			}
			return nil
		})
	})
	n := testkit.Size(100, 1000)
	delays := make([]time.Duration, n)
	for i := range n {
		if err := count(t.Context(), db.DB, owner, nothing); err != nil {
			t.Fatal(err)
		}
		committed := time.Now()
		here.Wake()
		delays[i] = testkit.Receive(t, heard, timeout).Sub(committed)
	}
	stop()
	watching.Wait()
	slices.Sort(delays)
	p50, p99 := delays[n/2], delays[n*99/100]
	testkit.Figure(t, "from a commit to the stream of another replica: p50 %s, p99 %s, most %s, of %d (the bound is "+
		"250ms)", p50.Round(time.Microsecond), p99.Round(time.Microsecond), delays[n-1].Round(time.Microsecond), n)
	if n == 1000 && p99 > 250*time.Millisecond { // of fewer it is the slowest one
		t.Errorf("p99 is %s", p99)
	}
	if p90 := delays[n*9/10]; p90 > Poll/2 { // without a wake, half of them take longer
		t.Errorf("one of ten changes took more than %s: not all wakes arrive", p90)
	}
}

// What a replica isn't told of, it finds.
func TestWithoutRedisAChangeIsReadByTheNextLook(t *testing.T) {
	db := database(t)
	here, there := replica(t, db.DB, ""), replica(t, db.DB, "redis://127.0.0.1:1/0")
	_, cursor := take(t, there, "", Filter{}, 0)
	owner := uuid.New()
	for i := range int64(5) {
		if err := count(t.Context(), db.DB, owner, nothing); err != nil {
			t.Fatal(err)
		}
		here.Wake()
		var got []Change
		if got, cursor = take(t, there, cursor, Filter{Owner: owner}, 1); len(got) != 1 || got[0].Version != i+1 {
			t.Fatal(got)
		}
	}
}

func TestAStreamHasTheChangesThatItsFilterSelects(t *testing.T) {
	db := database(t)
	f := replica(t, db.DB, "")
	_, start := take(t, f, "", Filter{}, 0)
	var owners []uuid.UUID
	for i := range 16 {
		owner := uuid.New()
		owner[15] = byte(i)
		owners = append(owners, owner)
		for range 2 {
			if err := count(t.Context(), db.DB, owner, nothing); err != nil {
				t.Fatal(err)
			}
		}
	}
	behind := New(db.DB, nil, "test", slog.New(slog.DiscardHandler)) // has nothing in memory before its first poll
	if all, _ := take(t, f, start, Filter{}, 32); len(all) != 32 {
		t.Fatal(len(all))
	}
	if err := behind.poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, feed := range map[string]*Feed{"from memory": f, "from the database": behind} {
		total := 0
		for shard := range 3 {
			got, _ := take(t, feed, start, Filter{Shard: shard, Shards: 3}, (16-shard+2)/3*2)
			for _, c := range got {
				if int(c.Owner[15])%3 != shard {
					t.Errorf("%s: shard %d has owner %s", name, shard, c.Owner)
				}
			}
			total += len(got)
		}
		if total != 32 {
			t.Errorf("%s: the shards have %d of 32 changes", name, total)
		}
		if got, _ := take(t, feed, start, Filter{Owner: owners[3]}, 2); !slices.Equal(versions(got), []int64{1, 2}) ||
			got[0].Owner != owners[3] || got[1].Owner != owners[3] {
			t.Errorf("%s: %v", name, got)
		}
	}
}
