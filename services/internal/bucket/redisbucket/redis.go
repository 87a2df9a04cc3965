// Package redisbucket counts calls in Redis, for all replicas; see package bucket.
package redisbucket

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/services/internal/bucket"
)

// A bucket in Redis is the time at which it will be full, in
// microseconds of the server's clock. A bucket that is full has no key.

// takeScript charges one call to the bucket KEYS[1], which holds up to ARGV[2]
// calls and refills one every ARGV[1] microseconds. It returns 0, or how many
// microseconds to wait; then nothing is charged.
var takeScript = redis.NewScript(`
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local every, size = tonumber(ARGV[1]), tonumber(ARGV[2])
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now) + every
local wait = full - now - every * size
if wait > 0 then return wait end
redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000))
return 0`)

// refundScript undoes a charge of ARGV[1] microseconds.
var refundScript = redis.NewScript(`
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local full = tonumber(redis.call('GET', KEYS[1]) or 0) - tonumber(ARGV[1])
if full <= now then return redis.call('DEL', KEYS[1]) end
redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000))
return 0`)

// Buckets count for all replicas. They are safe for concurrent use.
type Buckets struct {
	redis  redis.UniversalClient
	prefix string
	budget time.Duration
}

// New returns buckets in r whose keys begin with prefix, such as
// "purser:auth:attempts:". They wait for Redis up to budget, such as redisx.Budget.
func New(r redis.UniversalClient, prefix string, budget time.Duration) *Buckets {
	return &Buckets{r, prefix, budget}
}

// Take charges one call; or, when the bucket is empty, charges nothing and returns how
// long to wait. An error means that the count is unknown.
func (s *Buckets) Take(ctx context.Context, b bucket.Bucket) (refund func(), wait time.Duration, err error) {
	name := sha256.Sum256([]byte(b.Key)) // so that Redis stores no address or account
	keys := []string{redisx.Key(s.prefix+b.Kind+":", hex.EncodeToString(name[:16]))}
	every := b.RefillInterval().Microseconds()
	limited, cancel := redisx.WithBudget(ctx, s.budget)
	defer cancel()
	micros, err := takeScript.Run(limited, s.redis, keys, every, b.PerMinute).Int64()
	if err != nil || micros > 0 {
		return nil, time.Duration(micros) * time.Microsecond, err
	}
	return func() {
		limited, cancel := redisx.WithBudget(ctx, s.budget)
		defer cancel()
		// Without the refund the bucket refills in time.
		_ = refundScript.Run(limited, s.redis, keys, every).Err()
	}, 0, nil
}
