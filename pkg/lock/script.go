package lock

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// The lock's value is "<token>:<fence>". The fence has its own key, which
// outlives the lease by a week. Numbers pass through Lua as doubles, exact up
// to 2^53 microseconds, the year 2255, and are printed with %.0f because
// tostring rounds.
var (
	acquireScript = redis.NewScript(`
local held = redis.call('GET', KEYS[1])
if held then
  if string.sub(held, 1, #ARGV[1] + 1) == ARGV[1] .. ':' then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
    return {1, string.sub(held, #ARGV[1] + 2), 0}
  end
  return {0, tostring(redis.call('PTTL', KEYS[1])), 0}
end
local now = redis.call('TIME')
local fence = tonumber(now[1]) * 1000000 + tonumber(now[2])
local last = redis.call('GET', KEYS[2])
if last and tonumber(last) + 1 > fence then fence = tonumber(last) + 1 end
local text = string.format('%.0f', fence)
redis.call('SET', KEYS[1], ARGV[1] .. ':' .. text, 'PX', ARGV[2])
redis.call('SET', KEYS[2], text, 'EX', 604800)
return {1, text, last and 0 or 1}`)

	// raiseScript lifts the fence of a lease just taken over what Postgres
	// has seen.
	raiseScript = redis.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] .. ':' .. ARGV[2] then return 0 end
redis.call('SET', KEYS[1], ARGV[1] .. ':' .. ARGV[3], 'KEEPTTL')
redis.call('SET', KEYS[2], ARGV[3], 'EX', 604800)
return 1`)

	renewScript = redis.NewScript(`
local held = redis.call('GET', KEYS[1])
if not held or string.sub(held, 1, #ARGV[1] + 1) ~= ARGV[1] .. ':' then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])`)

	releaseScript = redis.NewScript(`
local held = redis.call('GET', KEYS[1])
if not held or string.sub(held, 1, #ARGV[1] + 1) ~= ARGV[1] .. ':' then return 0 end
redis.call('DEL', KEYS[1])
redis.call('PUBLISH', ARGV[2], '')
return 1`)
)

type answer struct {
	taken     bool
	fence     int64
	remaining time.Duration // of the present holder's lease
}

func (l *Locker) acquire(ctx context.Context, name, token string, ttl time.Duration) (answer, error) {
	keys := l.keys(name)
	reply, err := acquireScript.Run(ctx, l.client, keys, token, ttl.Milliseconds()).Slice()
	if err != nil {
		return answer{}, err
	}
	number, err := strconv.ParseInt(reply[1].(string), 10, 64)
	if err != nil {
		return answer{}, fmt.Errorf("lock: %w", err)
	}
	if reply[0].(int64) == 0 {
		return answer{remaining: time.Duration(number) * time.Millisecond}, nil
	}
	a := answer{taken: true, fence: number}
	if reply[2].(int64) == 0 || l.o.Floor == nil {
		return a, nil
	}
	floor, err := l.o.Floor(ctx, name)
	if err != nil || floor < a.fence {
		return a, nil //nolint:nilerr // without Postgres nothing fenced can be written anyway
	}
	raised, err := raiseScript.Run(ctx, l.client, keys, token, a.fence, floor+1).Int()
	if err == nil && raised == 1 {
		a.fence = floor + 1
	}
	return a, err
}
