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

// searchedEpochs is how many epochs Newest looks up. A rotation raises the epoch by
// one, a revocation by up to three.
const searchedEpochs = 8

// KeySetCache implements signing.Cache in Redis. Every call is bounded by
// redisx.Bounded.
type KeySetCache struct{ redis redis.UniversalClient }

// NewKeySetCache returns the key set cache in r.
func NewKeySetCache(r redis.UniversalClient) *KeySetCache { return &KeySetCache{redis: r} }

// keySetKey puts all epochs of an issuer on one Redis Cluster slot.
func keySetKey(issuer string, epoch int64) string {
	sum := sha256.Sum256([]byte(issuer))
	return fmt.Sprintf("%s:%d", redisx.Key("purser:auth:jwks:", hex.EncodeToString(sum[:8])), epoch)
}

// Put implements signing.Cache.
func (s *KeySetCache) Put(ctx context.Context, issuer string, epoch int64, sealed []byte, ttl time.Duration) error {
	ctx, cancel := redisx.Bounded(ctx)
	defer cancel()
	return s.redis.Set(ctx, keySetKey(issuer, epoch), sealed, ttl).Err()
}

// Newest implements signing.Cache.
func (s *KeySetCache) Newest(ctx context.Context, issuer string, from int64) (epoch int64, sealed []byte, err error) {
	ctx, cancel := redisx.Bounded(ctx)
	defer cancel()
	keys := make([]string, searchedEpochs)
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
func (s *KeySetCache) Delete(ctx context.Context, issuer string, epoch int64) error {
	ctx, cancel := redisx.Bounded(ctx)
	defer cancel()
	return s.redis.Del(ctx, keySetKey(issuer, epoch)).Err()
}
