#!/usr/bin/env bash
# Software:  github.com/redis/go-redis/v9 v9.23.0, with github.com/alicebob/miniredis/v2 v2.35.0 as the server
# Expected:  Set(ctx, key, value, time.Until(end)) when the end has passed, so that the duration is negative: an error,
#            as Redis answers a time to live below one, or a key that is gone at once. Documented is only that zero
#            means no expiration.
# Observed:  the key is set, and never expires. SetArgs with a negative TTL does the same, also with NX, as a lock is
#            taken. SetNX and SetEx send the negative time, and get the error.
# Cause:     Set and SetArgs send a time to live if it is above zero, and otherwise none.
# Care:      a session, a lock or a cached price that should have ended already stays for good, for a millisecond of
#            delay between the reading of its end and the command. Compare with zero before the call.
# Output:    Set, SetArgs, SetArgs NX for -1ms: OK without an end, OK without an end, OK without an end
#            SetNX, SetEx for -5s: ERR invalid expire time in set, ERR invalid expire time in setex
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
	"strings"
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
	// said tells of a command's error, or of the key that it has set.
	said := func(command func() error) string {
		client.Del(ctx, "key")
		if err := command(); err != nil {
			return err.Error()
		}
		switch d := client.PTTL(ctx, "key").Val(); d {
		case -2:
			return "OK without a key"
		case -1:
			return "OK without an end"
		default:
			return "OK for " + d.String()
		}
	}
	const late = -time.Millisecond
	forever := []string{
		said(func() error { return client.Set(ctx, "key", "value", late).Err() }),
		said(func() error { return client.SetArgs(ctx, "key", "value", redis.SetArgs{TTL: late}).Err() }),
		said(func() error { return client.SetArgs(ctx, "key", "value", redis.SetArgs{TTL: late, Mode: "NX"}).Err() }),
	}
	refused := []string{
		said(func() error { return client.SetNX(ctx, "key", "value", -5*time.Second).Err() }),
		said(func() error { return client.SetEx(ctx, "key", "value", -5*time.Second).Err() }),
	}
	fmt.Printf("Set, SetArgs, SetArgs NX for %v: %s\n", late, strings.Join(forever, ", "))
	fmt.Printf("SetNX, SetEx for -5s: %s\n", strings.Join(refused, ", "))
	for _, s := range forever {
		if s != "OK without an end" {
			os.Exit(1)
		}
	}
	for _, s := range refused {
		if !strings.HasPrefix(s, "ERR invalid expire time") {
			os.Exit(1)
		}
	}
}
GO
export GOWORK=off GOFLAGS=-mod=mod
go mod tidy > /dev/null 2>&1 || exit 2
go build -o finding . || exit 2
timeout 30 ./finding
