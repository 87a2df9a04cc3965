#!/usr/bin/env bash
# Software:  github.com/redis/go-redis/v9 v9.23.0, with github.com/alicebob/miniredis/v2 v2.35.0 as the server
# Expected:  a time to live is a time.Duration, and what is given is what the key gets, to the millisecond that Redis
#            keeps: with Expire and SetEx as with Set, SetNX and GetEx.
# Observed:  Set, SetNX and GetEx choose PX where the duration needs it. Expire and SetEx send whole seconds, and cut
#            the rest off: 1.9 s become 1 s, without an error. Only below a second a line is logged, and 1 s is set.
# Cause:     they are the commands EXPIRE and SETEX by name, which take seconds; formatSec divides without rounding.
# Care:      a lock that is taken by SetNX for 1.9 s and extended by Expire for 1.9 s ends 0.9 s before its holder
#            believes. Use PExpire, and Set with a duration.
# Output:    Set 1.9s, SetNX 1.9s, GetEx 1.9s, PExpire 1.9s
#            Expire 1s, SetEx 1s
# Exit code: 0 while it is so; 1 when it has changed; 2 when it could not be tried.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat > go.mod <<'MOD'
module example.com/finding

go 1.25

require (
	github.com/alicebob/miniredis/v2 v2.35.0
	github.com/redis/go-redis/v9 v9.23.0
)
MOD
cat > main.go <<'GO'
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

func main() {
	server := miniredis.NewMiniRedis()
	if err := server.Start(); err != nil {
		panic(err)
	}
	defer server.Close()
	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	ctx := context.Background()
	const given = 1900 * time.Millisecond
	// ttl is what a key has after a command, which an untouched clock does not change.
	ttl := func(fresh bool, command func() error) time.Duration {
		client.Del(ctx, "key")
		if !fresh {
			client.Set(ctx, "key", "value", time.Hour)
		}
		if err := command(); err != nil {
			panic(err)
		}
		d, err := client.PTTL(ctx, "key").Result()
		if err != nil {
			panic(err)
		}
		return d
	}
	set := ttl(true, func() error { return client.Set(ctx, "key", "value", given).Err() })
	setNX := ttl(true, func() error { return client.SetNX(ctx, "key", "value", given).Err() })
	getEx := ttl(false, func() error { return client.GetEx(ctx, "key", given).Err() })
	pExpire := ttl(false, func() error { return client.PExpire(ctx, "key", given).Err() })
	expire := ttl(false, func() error { return client.Expire(ctx, "key", given).Err() })
	setEx := ttl(true, func() error { return client.SetEx(ctx, "key", "value", given).Err() })
	fmt.Printf("Set %v, SetNX %v, GetEx %v, PExpire %v\nExpire %v, SetEx %v\n", set, setNX, getEx, pExpire, expire,
		setEx)
	if set != given || setNX != given || getEx != given || pExpire != given || expire != time.Second ||
		setEx != time.Second {
		os.Exit(1)
	}
}
GO
export GOWORK=off GOFLAGS=-mod=mod
go mod tidy > /dev/null 2>&1 || exit 2
go build -o finding . || exit 2
timeout 30 ./finding
