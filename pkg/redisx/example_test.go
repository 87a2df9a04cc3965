package redisx_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/pkg/testkit/redisserver"
)

func ExampleNew() {
	ctx := context.Background()
	server, err := redisserver.Start(ctx, redisserver.Options{})
	if err != nil {
		panic(err)
	}
	client, err := redisx.New(redisx.Options{URL: server.URL(), Timeout: time.Second})
	if err != nil {
		panic(err)
	}
	defer client.Close()

	fmt.Println(client.Set(ctx, "greeting", "hello", time.Minute).Err())
	fmt.Println(client.Get(ctx, "greeting").Val())

	_ = server.Stop(ctx)
	err = redisx.Unavailable(client.Get(ctx, "greeting").Err())
	fmt.Println(errors.Is(err, redisx.ErrUnavailable))
	// Output:
	// <nil>
	// hello
	// true
}

// Keys that a script or a transaction uses together have the same hash tag.
func ExampleKey() {
	fmt.Println(redisx.Key("purser:wallet:balance:", "eip155:1"))
	fmt.Println(redisx.Key("purser:wallet:balance:", "a}b"))
	// Output:
	// purser:wallet:balance:{eip155:1}
	// purser:wallet:balance:{a%7Db}
}
