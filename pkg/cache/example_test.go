package cache_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/pkg/testkit/redisserver"
)

// start brings up a Redis and returns a client of it.
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

func ExampleOnce() {
	redis, stop := start()
	defer stop()
	challenges := cache.NewOnce[string](redis, cache.Namespace{Service: "example", Entity: "challenge", Schema: 1},
		options)
	ctx := context.Background()
	_ = challenges.Put(ctx, "session", "nonce", time.Minute)
	for range 2 {
		fmt.Println(challenges.Take(ctx, "session"))
	}
	// Output:
	// nonce true <nil>
	//  false <nil>
}
