package lock

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// The lock's value is its holder's token. The fence has its own key, which
// outlives the lease by a week. Numbers pass through Lua as doubles, exact up
// to 2^53 microseconds, the year 2255, and are printed with %.0f because
// tostring rounds.
var (
	// acquireScript returns whether the lock was taken, its fence or the
	// remaining milliseconds of the present lease, and whether no earlier
	// fence was known.
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

	// raiseScript lifts the fence of a lease just taken over what Postgres
	// has seen.
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
	taken     bool
	fence     int64
	remaining time.Duration // of the present holder's lease
}

// acquire asks for the lock, again when an answer for this token may have been
// lost.
func (l *Locker) acquire(ctx context.Context, name, key, token string, ttl time.Duration, again bool) (answer, error) {
	if l.o.Unfenced {
		return l.acquireUnfenced(ctx, key, token, ttl, again)
	}
	keys := []string{key, key + ":fence"}
	reply, err := acquireScript.Run(ctx, l.client, keys, token, ttl.Milliseconds()).Slice()
	if err != nil {
		return answer{}, err
	}
	a, first, err := parse(reply)
	if err != nil || !a.taken || l.o.Floor == nil || !first && !again { // again may have been first
		return a, err
	}
	floor, err := l.o.Floor(ctx, name)
	if err != nil || floor < a.fence {
		return a, nil //nolint:nilerr // without Postgres nothing fenced can be written anyway
	}
	raised, err := raiseScript.Run(ctx, l.client, keys, token, floor+1).Bool()
	switch {
	case err != nil:
		return answer{}, err
	case !raised: // and so lost already
		return answer{}, ErrLost
	}
	a.fence = floor + 1
	return a, nil
}

func (l *Locker) acquireUnfenced(ctx context.Context, key, token string, ttl time.Duration, again bool) (answer,
	error) {
	taken, err := l.client.SetNX(ctx, key, token, ttl).Result()
	if err != nil || taken || !again {
		return answer{taken: taken}, err
	}
	holder, err := l.client.Get(ctx, key).Result()
	if errors.Is(err, redis.Nil) { // released or expired in between: held by another a moment ago
		err = nil
	}
	return answer{taken: err == nil && holder == token}, err
}

// parse reads acquireScript's reply; first is set when Redis knew no earlier
// fence of the name.
func parse(reply []any) (a answer, first bool, err error) {
	if len(reply) != 3 {
		return a, false, fmt.Errorf("lock: Redis answered with %d parts", len(reply))
	}
	taken, ok := reply[0].(int64)
	text, isText := reply[1].(string)
	unknown, isFlag := reply[2].(int64)
	number, err := strconv.ParseInt(text, 10, 64)
	if !ok || !isText || !isFlag || err != nil {
		return a, false, fmt.Errorf("lock: Redis answered %.100q", fmt.Sprint(reply...))
	}
	if taken == 0 {
		return answer{remaining: time.Duration(number) * time.Millisecond}, false, nil
	}
	return answer{taken: true, fence: number}, unknown == 1, nil
}
