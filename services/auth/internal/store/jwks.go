package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/purserhq/purser/pkg/redisx"
)

// epochsAhead is how many epochs after its own a replica looks for: a rotation
// makes one, a compromise up to three.
const epochsAhead = 8

// KeySets implements signing.Cache in Redis. Every call ends within redisx's
// budget.
type KeySets struct{ redis redis.UniversalClient }

// NewKeySets returns the key sets in r.
func NewKeySets(r redis.UniversalClient) *KeySets { return &KeySets{redis: r} }

// keySetKey is on one slot for all epochs of an issuer.
func keySetKey(issuer string, epoch int64) string {
	sum := sha256.Sum256([]byte(issuer))
	return fmt.Sprintf("auth:jwks:{%s}:%d", hex.EncodeToString(sum[:8]), epoch)
}

// Put implements signing.Cache.
func (s *KeySets) Put(ctx context.Context, issuer string, epoch int64, sealed []byte, ttl time.Duration) error {
	ctx, cancel := redisx.Bounded(ctx)
	defer cancel()
	return s.redis.Set(ctx, keySetKey(issuer, epoch), sealed, ttl).Err()
}

// Newest implements signing.Cache.
func (s *KeySets) Newest(ctx context.Context, issuer string, from int64) (epoch int64, sealed []byte, err error) {
	ctx, cancel := redisx.Bounded(ctx)
	defer cancel()
	keys := make([]string, epochsAhead)
	for i := range keys {
		keys[i] = keySetKey(issuer, from+int64(i))
	}
	values, err := s.redis.MGet(ctx, keys...).Result()
	if err != nil {
		return 0, nil, err
	}
	for i, v := range values {
		if text, ok := v.(string); ok {
			epoch, sealed = from+int64(i), []byte(text)
		}
	}
	return epoch, sealed, nil
}

// Delete implements signing.Cache.
func (s *KeySets) Delete(ctx context.Context, issuer string, epoch int64) error {
	ctx, cancel := redisx.Bounded(ctx)
	defer cancel()
	return s.redis.Del(ctx, keySetKey(issuer, epoch)).Err()
}
