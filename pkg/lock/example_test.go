package lock_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/lock"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/pkg/testkit/redisserver"
)

// open gives the examples a Redis.
func open(ctx context.Context) (*lock.Locker, func()) {
	server, err := redisserver.Start(ctx, redisserver.Options{})
	if err != nil {
		panic(err)
	}
	client, err := redisx.New(redisx.Options{URL: server.URL(), Timeout: time.Second})
	if err != nil {
		panic(err)
	}
	locker := lock.New(client, lock.Options{Prefix: "purser:example", Budget: time.Second})
	return locker, func() { locker.Close(); _ = client.Close(); _ = server.Stop(ctx) }
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

// What has to be right even when a holder was paused past its lease begins its
// transaction with Fenced.
func ExampleFenced() {
	write := func(ctx context.Context, db *postgres.DB, g *lock.Guard) error {
		return postgres.InTx(ctx, db, func(tx *gorm.DB) error {
			if err := lock.Fenced(tx, g); err != nil {
				return err // lock.ErrFenced: a newer holder has written
			}
			return tx.Exec(`UPDATE settlements SET state = 'done'`).Error
		})
	}
	_ = write
}
