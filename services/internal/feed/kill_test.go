package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/faultproxy"
)

// writer makes changes of an owner, two processes at a time, until it is killed.
func writer(ctx context.Context, args []string) error {
	db, err := postgres.Open(ctx, postgres.Options{URL: args[0]})
	if err != nil {
		return err
	}
	owner, err := uuid.Parse(args[1])
	if err != nil {
		return err
	}
	for {
		err := count(ctx, db, owner, func(tx *gorm.DB) error {
			return tx.Exec("SELECT pg_sleep(random() * 0.01)").Error
		})
		if err != nil {
			return err
		}
	}
}

// reader follows the feed until it is killed, and stores what it reads together with the cursor.
func reader(ctx context.Context, args []string) error {
	db, err := postgres.Open(ctx, postgres.Options{URL: args[0]})
	if err != nil {
		return err
	}
	client, err := redisx.New(redisx.Options{URL: args[1]})
	if err != nil {
		return err
	}
	f := New(db, client, "test", slog.New(slog.DiscardHandler))
	failed := make(chan error, 2)
	go func() { failed <- f.Run(ctx) }()
	go func() {
		var from string
		if err := db.Gorm(ctx).Raw("SELECT cursor FROM reader").Scan(&from).Error; err != nil {
			failed <- err
			return
		}
		failed <- f.Watch(ctx, from, Filter{}, func(changes []Change, at string) error {
			return postgres.InTx(ctx, db, func(tx *gorm.DB) error {
				for _, c := range changes {
					err := tx.Exec("INSERT INTO seen (owner_id, n) VALUES (?, ?)", c.Owner, c.Version).Error
					if err != nil {
						return err
					}
				}
				return tx.Exec("UPDATE reader SET cursor = ?", at).Error
			})
		})
	}()
	err = <-failed
	return fmt.Errorf("the reader ended: %w", errors.Join(err, errors.New("it never should")))
}

// Writers and readers are killed while they write and read; from the second time on Redis, which wakes the readers,
// answers nothing for a while. Whatever was committed is stored by the readers once, and that of an owner in order.
func TestNothingIsMissedWhenWritersAndReadersAreKilled(t *testing.T) {
	kills, outage := testkit.Size(3, 20), time.Duration(testkit.Size(3, 60))*time.Second
	db, server := database(t), testkit.Redis(t)
	proxy := testkit.Proxy(t, server.URL())
	one := func(query string) (n int64) {
		if err := db.Gorm(t.Context()).Raw(query).Scan(&n).Error; err != nil {
			t.Fatal(err)
		}
		return n
	}
	owners := []string{uuid.NewString(), uuid.NewString()}
	spawnWriter := func(i int) *testkit.Child { return testkit.Spawn(t, "writer", db.URL, owners[i]) }
	spawnReader := func() *testkit.Child { return testkit.Spawn(t, "reader", db.URL, proxy.Rewrite(server.URL())) }
	following := spawnReader()
	testkit.Eventually(t, timeout, func() bool { return one("SELECT count(*) FROM reader WHERE cursor <> ''") == 1 })
	writers := []*testkit.Child{spawnWriter(0), spawnWriter(1)}
	var silent time.Time // since when Redis is, until it isn't
	killed, meanwhile := 0, int64(0)
	for i := 0; i < kills || !silent.IsZero(); i++ {
		if i == 1 {
			proxy.ToServer(faultproxy.Fault{Blackhole: true})
			proxy.ToClient(faultproxy.Fault{Blackhole: true})
			silent = time.Now()
		}
		seen := one("SELECT count(*) FROM seen")
		testkit.Eventually(t, timeout, func() bool { return one("SELECT count(*) FROM seen") > seen+20 })
		following.Kill()
		writers[i%2].Kill()
		writers[i%2], following = spawnWriter(i%2), spawnReader()
		killed++
		if !silent.IsZero() {
			meanwhile += one("SELECT count(*) FROM seen") - seen
		}
		if !silent.IsZero() && time.Since(silent) > outage {
			proxy.Heal()
			silent = time.Time{}
		}
	}
	for _, w := range writers {
		w.Kill()
	}
	// A transaction of a killed process may still be under way.
	testkit.Eventually(t, timeout, func() bool {
		return one("SELECT count(*) FROM seen") == one("SELECT sum(n)::bigint FROM counters") &&
			one("SELECT count(*) FROM changes WHERE number IS NULL") == 0
	})
	total := one("SELECT count(*) FROM changes")
	if seen, made := one("SELECT count(*) FROM seen"), one("SELECT sum(n)::bigint FROM counters"); seen != made ||
		made != total {
		t.Errorf("%d of %d changes were read, %d are in the feed", seen, made, total)
	}
	wrong := one(`SELECT count(*) FROM (
		SELECT n, row_number() OVER (PARTITION BY owner_id ORDER BY place) AS nth FROM seen) s WHERE n <> nth`)
	if wrong != 0 {
		t.Errorf("%d changes are out of order", wrong)
	}
	testkit.Figure(t, "%d SIGKILLs of a reader and of a writer, Redis silent for %s of them: %d changes, %d of them "+
		"read while it was, each stored once by the readers and in order", killed, outage, total, meanwhile)
}
