package lock

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// The lock's value is its holder's token. The fence has a key of its own, which lives for a week after the lock was
// acquired; after that the clock alone makes the next fence greater. Lua's numbers are doubles, exact up to 2^53
// microseconds, the year 2255; tostring would round them, hence %.0f.
var (
	// acquireScript returns whether the lock was acquired, its fence or the
	// remaining milliseconds of the current lease, and whether Redis had no
	// earlier fence.
	acquireScript = redis.NewScript(`
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return {0, tostring(redis.call('PTTL', KEYS[1])), 0} end
local last = redis.call('GET', KEYS[2])
if held and last then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return {1, last, 0}
end
local now = redis.call('TIME')
local fence = tonumber(now[1]) * 1000000 + tonumber(now[2])
if last and tonumber(last) + 1 > fence then fence = tonumber(last) + 1 end
local text = string.format('%.0f', fence)
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('SET', KEYS[2], text, 'EX', 604800)
return {1, text, last and 0 or 1}`)

	// raiseScript raises the fence of a new lease above the one in Postgres.
	raiseScript = redis.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[2], 'EX', 604800)
return 1`)

	renewScript = redis.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])`)

	releaseScript = redis.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
if ARGV[2] then redis.call('PUBLISH', ARGV[2], KEYS[1]) end
return 1`)
)

type answer struct {
	acquired  bool
	fence     int64
	remaining time.Duration // of the current holder's lease
}

// acquire tries to acquire the lock. A retry uses the token of an attempt whose
// reply may have been lost.
func (l *Locker) acquire(ctx context.Context, name, key, token string, ttl time.Duration, retry bool) (answer, error) {
	if l.o.Unfenced {
		return l.acquireUnfenced(ctx, key, token, ttl, retry)
	}
	keys := []string{key, key + ":fence"}
	reply, err := acquireScript.Run(ctx, l.client, keys, token, ttl.Milliseconds()).Slice()
	if err != nil {
		return answer{}, err
	}
	a, noEarlierFence, err := parse(reply)
	// The attempt before a retry may have found no earlier fence.
	if err != nil || !a.acquired || l.o.Floor == nil || !noEarlierFence && !retry {
		return a, err
	}
	floor, err := l.o.Floor(ctx, name)
	if err != nil || floor < a.fence {
		return a, nil //nolint:nilerr // without Postgres no fenced write can happen
	}
	raised, err := raiseScript.Run(ctx, l.client, keys, token, floor+1).Bool()
	switch {
	case err != nil:
		return answer{}, err
	case !raised: // the lease was lost
		return answer{}, ErrLost
	}
	a.fence = floor + 1
	return a, nil
}

func (l *Locker) acquireUnfenced(ctx context.Context, key, token string, ttl time.Duration, retry bool) (answer,
	error) {
	acquired, err := l.client.SetNX(ctx, key, token, ttl).Result()
	if err != nil || acquired || !retry {
		return answer{acquired: acquired}, err
	}
	holder, err := l.client.Get(ctx, key).Result()
	if errors.Is(err, redis.Nil) { // the other holder's lease has ended since
		err = nil
	}
	return answer{acquired: err == nil && holder == token}, err
}

// parse decodes acquireScript's reply.
func parse(reply []any) (a answer, noEarlierFence bool, err error) {
	if len(reply) != 3 {
		return a, false, fmt.Errorf("lock: the reply of Redis has %d parts, not 3", len(reply))
	}
	acquired, ok := reply[0].(int64)
	text, isText := reply[1].(string)
	unknown, isFlag := reply[2].(int64)
	number, err := strconv.ParseInt(text, 10, 64)
	if !ok || !isText || !isFlag || err != nil {
		return a, false, fmt.Errorf("lock: the reply of Redis is %.100q", fmt.Sprint(reply...))
	}
	if acquired == 0 {
		return answer{remaining: time.Duration(number) * time.Millisecond}, false, nil
	}
	return answer{acquired: true, fence: number}, unknown == 1, nil
}
