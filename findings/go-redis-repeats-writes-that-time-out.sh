#!/usr/bin/env bash
# Software:  github.com/redis/go-redis/v9 v9.23.0 with Redis 7.0.15
# Expected:  a command whose answer does not come in time is an error, or is repeated if it may be: GET, but not INCR,
#            RPUSH or SET NX, since nobody knows whether the server has done it.
# Observed:  these are repeated too, up to three times if nothing else is set. One Incr adds two, one RPush stores two
#            jobs, and SetNX answers false though the key is there with the caller's own value: a lock that nobody
#            believes to hold. There is no error.
# Cause:     a timeout while reading counts as a reason to try again, whatever the command is. The server, which was
#            only slow, does both when it goes on.
# Care:      set MaxRetries to -1, and repeat only what may be repeated; or make each command safe to repeat: XADD with
#            an id of one's own, a lock whose value is compared after a refusal.
# Output:    a server that stands still for 500ms, ReadTimeout 300ms
#            by default: Incr 2 <nil>, RPush 2 <nil>, SetNX false <nil> and the lock has the value own
#            MaxRetries -1: Incr 0 i/o timeout, RPush 0 i/o timeout, SetNX false i/o timeout; done once
# Exit code: 0 while it is so; 1 when it has changed; 2 when it could not be tried.
set -euo pipefail
command -v redis-server > /dev/null || { echo "needs the server of Redis"; exit 2; }
dir=$(mktemp -d)
pid=
end() { # the server, which may stand still, and which removes its socket from the folder as it ends
  if [ -n "$pid" ]; then
    kill "$pid" 2>/dev/null || true
    kill -CONT "$pid" 2>/dev/null || true
    wait "$pid" || true
  fi
  rm -rf "$dir"
}
trap end EXIT
cd "$dir"
cat > go.mod <<'MOD'
module example.com/finding

go 1.25

require github.com/redis/go-redis/v9 v9.23.0
MOD
cat > main.go <<'GO'
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	still = 500 * time.Millisecond
	limit = 300 * time.Millisecond
)

var ctx = context.Background()

// run tells what the three commands answer while the server stands still, and then what is stored.
func run(pid int, socket string, retries int) (said string, number, jobs int64, value string) {
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: socket, ReadTimeout: limit, MaxRetries: retries})
	defer client.Close()
	client.FlushAll(ctx)
	stopped := func(command func() (string, error)) string {
		client.Ping(ctx) // there is a connection
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			os.Exit(2)
		}
		on := make(chan struct{})
		time.AfterFunc(still, func() { _ = syscall.Kill(pid, syscall.SIGCONT); close(on) })
		got, err := command()
		<-on
		time.Sleep(100 * time.Millisecond)
		if timeout := (interface{ Timeout() bool })(nil); errors.As(err, &timeout) && timeout.Timeout() {
			return got + " i/o timeout"
		}
		return fmt.Sprint(got, " ", err)
	}
	said = "Incr " + stopped(func() (string, error) {
		n, err := client.Incr(ctx, "number").Result()
		return strconv.FormatInt(n, 10), err
	})
	said += ", RPush " + stopped(func() (string, error) {
		n, err := client.RPush(ctx, "jobs", "one").Result()
		return strconv.FormatInt(n, 10), err
	})
	said += ", SetNX " + stopped(func() (string, error) {
		ok, err := client.SetNX(ctx, "lock", "own", time.Minute).Result()
		return strconv.FormatBool(ok), err
	})
	number, _ = client.Get(ctx, "number").Int64()
	return said, number, client.LLen(ctx, "jobs").Val(), client.Get(ctx, "lock").Val()
}

func main() {
	pid, err := strconv.Atoi(os.Args[1])
	if err != nil {
		os.Exit(2)
	}
	fmt.Printf("a server that stands still for %v, ReadTimeout %v\n", still, limit)
	said, number, jobs, value := run(pid, os.Args[2], 0)
	fmt.Printf("by default: %s and the lock has the value %s\n", said, value)
	same := number > 1 && jobs > 1 && value == "own"
	said, number, jobs, value = run(pid, os.Args[2], -1)
	done := "done once"
	if number != 1 || jobs != 1 || value != "own" {
		done = fmt.Sprintf("done %d and %d times", number, jobs)
	}
	fmt.Printf("MaxRetries -1: %s; %s\n", said, done)
	if !same || done != "done once" {
		os.Exit(1)
	}
}
GO
export GOWORK=off GOFLAGS=-mod=mod
go mod tidy > /dev/null 2>&1 || exit 2
go build -o finding . || exit 2
redis-server --port 0 --unixsocket "$dir/socket" --save '' --dir "$dir" --logfile "$dir/log" &
pid=$!
for _ in $(seq 100); do [ -S "$dir/socket" ] && break; sleep 0.1; done
[ -S "$dir/socket" ] || exit 2
timeout 60 ./finding "$pid" "$dir/socket"
