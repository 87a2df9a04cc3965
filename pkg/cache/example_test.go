package cache_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing/fstest"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/redisserver"
)

// start starts a Redis and returns a client of it.
func start() (client cache.Redis, stop func()) {
	ctx := context.Background()
	server, err := redisserver.Start(ctx, redisserver.Options{})
	if err != nil {
		panic(err)
	}
	c, err := redisx.New(redisx.Options{URL: server.URL(), Timeout: 5 * time.Second})
	if err != nil {
		panic(err)
	}
	return c, func() {
		_ = c.Close()
		_ = server.Stop(ctx)
	}
}

var (
	names   = cache.Namespace{Service: "example", Entity: "name", Schema: 1}
	options = cache.Options{TTL: time.Minute, Budget: 5 * time.Second}
)

func ExampleCache_Get() {
	redis, stop := start()
	defer stop()
	c := cache.New[string](redis, names, options)
	defer c.Close()
	ctx := context.Background()
	for range 2 {
		name, err := c.Get(ctx, "7", func(context.Context) (string, error) {
			fmt.Println("loading")
			return "seven", nil
		})
		fmt.Println(name, err)
	}
	_, err := c.Get(ctx, "8", func(context.Context) (string, error) { return "", cache.ErrNotFound })
	fmt.Println(errors.Is(err, cache.ErrNotFound))
	// Output:
	// loading
	// seven <nil>
	// seven <nil>
	// true
}

func ExampleCache_GetMany() {
	redis, stop := start()
	defer stop()
	c := cache.New[string](redis, names, options)
	defer c.Close()
	ctx := context.Background()
	load := func(_ context.Context, ids []string) (map[string]string, error) {
		fmt.Println("loading", ids)
		return map[string]string{"7": "seven", "8": "eight"}, nil
	}
	_, _ = c.GetMany(ctx, []string{"7", "9"}, load)
	found, err := c.GetMany(ctx, []string{"7", "8", "9"}, load)
	fmt.Println(found, err)
	// Output:
	// loading [7 9]
	// loading [8]
	// map[7:seven 8:eight] <nil>
}

func ExampleCache_Write() {
	redis, stop := start()
	defer stop()
	c := cache.New[string](redis, names, options)
	defer c.Close()
	ctx := context.Background()
	stored := "old"
	load := func(context.Context) (string, error) { return stored, nil }
	before, _ := c.Get(ctx, "7", load)
	err := c.Write(ctx, []string{"7"}, func() error {
		stored = "new" // a transaction that commits
		return nil
	})
	after, _ := c.Get(ctx, "7", load)
	fmt.Println(before, after, err)
	// Output: old new <nil>
}

func ExampleSingleUse() {
	redis, stop := start()
	defer stop()
	namespace := cache.Namespace{Service: "example", Entity: "challenge", Schema: 1}
	challenges := cache.NewSingleUse[string](redis, namespace, options)
	ctx := context.Background()
	_ = challenges.Put(ctx, "session", "nonce", time.Minute)
	for range 2 {
		fmt.Println(challenges.Take(ctx, "session"))
	}
	// Output:
	// nonce true <nil>
	//  false <nil>
}

// Change records the invalidation in the transaction and carries it out after the
// commit. The Outbox repeats it should Redis be down at that moment.
func ExampleChange() {
	redis, stop := start()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	db, drop, err := testkit.Database(ctx, fstest.MapFS{"00001_cache.sql": {Data: []byte("-- +goose Up\n" +
		cache.Schema + "CREATE TABLE names (name text); INSERT INTO names VALUES ('old');")}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = drop() }()
	c := cache.New[string](redis, names, options)
	defer c.Close()
	outboxContext, stopOutbox := context.WithCancel(ctx)
	stopped := make(chan error, 1)
	go func() { stopped <- cache.NewOutbox(db.DB, redis, nil).Serve(outboxContext) }()
	defer func() { stopOutbox(); <-stopped }()

	load := func(ctx context.Context) (name string, err error) {
		err = db.Gorm(ctx).Raw(`SELECT name FROM names`).Scan(&name).Error
		return name, err
	}
	before, _ := c.Get(ctx, "7", load)
	err = cache.Change(ctx, db.DB, func(tx *gorm.DB) ([]cache.Invalidation, error) {
		return []cache.Invalidation{{Cache: c, Keys: []string{"7"}}}, tx.Exec(`UPDATE names SET name = 'new'`).Error
	})
	after, _ := c.Get(ctx, "7", load)
	fmt.Println(before, after, err)
	// Output: old new <nil>
}

// A read of a value past its SoftTTL returns it at once and reloads it in the
// background.
func ExampleOptions_softTTL() {
	redis, stop := start()
	defer stop()
	var now atomic.Int64
	c := cache.New[string](redis, names, cache.Options{TTL: time.Hour, SoftTTL: time.Minute,
		Budget: 5 * time.Second, Now: func() time.Time { return time.Unix(now.Load(), 0) }})
	ctx := context.Background()
	version := 1
	load := func(context.Context) (string, error) { return fmt.Sprint("version ", version), nil }
	_, _ = c.Get(ctx, "7", load)
	first, _ := c.Get(ctx, "7", load) // returns once the first load is stored
	version = 2
	now.Add(61)
	stale, _ := c.Get(ctx, "7", load)
	c.Close() // waits for the reload
	reloaded, _ := c.Get(ctx, "7", load)
	fmt.Println(first, "|", stale, "|", reloaded)
	// Output: version 1 | version 1 | version 2
}

// Proto caches generated messages in their wire format.
func ExampleProto() {
	redis, stop := start()
	defer stop()
	c := cache.New[*wrapperspb.StringValue](redis, names, cache.Options{Budget: 5 * time.Second, Codec: cache.Proto{}})
	defer c.Close()
	for range 2 {
		message, err := c.Get(context.Background(), "7", func(context.Context) (*wrapperspb.StringValue, error) {
			return wrapperspb.String("seven"), nil
		})
		fmt.Println(message.GetValue(), err)
	}
	// Output:
	// seven <nil>
	// seven <nil>
}
