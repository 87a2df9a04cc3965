package lock_test

import (
	"context"
	"errors"
	"fmt"
	"testing/fstest"
	"time"

	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/lock"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/redisserver"
)

// open returns a Locker on a Redis of its own.
func open(ctx context.Context) (*lock.Locker, func()) {
	server, err := redisserver.Start(ctx, redisserver.Options{})
	if err != nil {
		panic(err)
	}
	client, err := redisx.New(redisx.Options{URL: server.URL(), Timeout: time.Second})
	if err != nil {
		panic(err)
	}
	subscriber, err := redisx.New(redisx.Options{URL: server.URL(), Subscriber: true})
	if err != nil {
		panic(err)
	}
	locker := lock.New(client, lock.Options{Prefix: "purser:example", Budget: time.Second, Subscriber: subscriber})
	return locker, func() {
		locker.Close()
		_ = client.Close()
		_ = subscriber.Close()
		_ = server.Stop(ctx)
	}
}

func ExampleLocker_Do() {
	ctx := context.Background()
	locker, done := open(ctx)
	defer done()

	err := locker.Do(ctx, "settlement", 10*time.Second, func(ctx context.Context, g *lock.Guard) error {
		fmt.Println("held, with a fence:", g.Fence() > 0)
		return ctx.Err() // ends when the lease is lost
	})
	fmt.Println(err)
	// Output:
	// held, with a fence: true
	// <nil>
}

func ExampleLocker_Try() {
	ctx := context.Background()
	locker, done := open(ctx)
	defer done()

	g, err := locker.Try(ctx, "import", 10*time.Second)
	fmt.Println(err)
	_, err = locker.Try(ctx, "import", 10*time.Second)
	fmt.Println(errors.Is(err, lock.ErrHeld))
	fmt.Println(g.Release())
	// Output:
	// <nil>
	// true
	// <nil>
}

// Acquire waits until the lock is released. With a Subscriber the release wakes it.
func ExampleLocker_Acquire() {
	ctx := context.Background()
	locker, done := open(ctx)
	defer done()

	first, err := locker.Try(ctx, "import", 10*time.Second)
	if err != nil {
		fmt.Println(err)
		return
	}
	acquired := make(chan error, 1)
	go func() {
		second, err := locker.Acquire(ctx, "import", 10*time.Second)
		if err == nil {
			err = second.Release()
		}
		acquired <- err
	}()
	fmt.Println(first.Release())
	fmt.Println(<-acquired)
	// Output:
	// <nil>
	// <nil>
}

// A write that has to be right even when its holder was paused past its lease calls
// Fenced first in its transaction. Here the first holder's lease is lost while it is
// about to write.
func ExampleFenced() {
	ctx := context.Background()
	locker, done := open(ctx)
	defer done()
	db, drop, err := testkit.Database(ctx, fstest.MapFS{"00001_lock.sql": {Data: []byte("-- +goose Up\n" +
		lock.Schema + "CREATE TABLE settlements (state text);")}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = drop() }()

	write := func(g *lock.Guard) error {
		return postgres.InTx(ctx, db.DB, func(tx *gorm.DB) error {
			if err := lock.Fenced(tx, g); err != nil {
				return err
			}
			return tx.Exec(`INSERT INTO settlements VALUES ('done')`).Error
		})
	}
	first, _ := locker.Try(ctx, "settlement", 10*time.Second)
	_ = first.Release() // as if the lease had expired
	second, _ := locker.Try(ctx, "settlement", 10*time.Second)
	fmt.Println("second:", write(second))
	fmt.Println("first is fenced:", errors.Is(write(first), lock.ErrFenced))
	_ = second.Release()
	// Output:
	// second: <nil>
	// first is fenced: true
}

// When Redis has lost its data, Floor keeps the fences above those in Postgres.
func ExampleFloor() {
	ctx := context.Background()
	db, drop, err := testkit.Database(ctx, fstest.MapFS{"00001_lock.sql": {Data: []byte("-- +goose Up\n" +
		lock.Schema + "INSERT INTO lock_fences (name, fence) VALUES ('settlement', 8000000000000123);")}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = drop() }()

	floor, err := lock.Floor(db.Gorm)(ctx, "settlement") // what Options.Floor returns to the Locker
	fmt.Println(floor, err)
	// Output: 8000000000000123 <nil>
}
