package store

import (
	"context"
	"crypto/rand"
	"log/slog"
	"time"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/redisx"
)

// CacheBudget is what one cache may wait for Redis in one call. A call asks
// two at most, so it waits for redisx.Budget in all.
const CacheBudget = redisx.Budget / 2

// CacheOptions say how long things are cached.
type CacheOptions struct {
	Wallets, Token time.Duration
	Budget         time.Duration // CacheBudget
	Log            *slog.Logger
}

// generationTTL has no part in how old an answer may be: that is the TTL of
// what is kept under a generation.
const generationTTL = time.Hour

// Caches are those of this package.
//
// A page of wallets is kept under the generation of its owner, a random name
// that is cached too, and, when it shows tokens, under the one of the tokens.
// To invalidate a generation makes all pages under it unreachable at once, and
// a reader that was slow can only store under the old one.
type Caches struct {
	tokens      *cache.Cache[tokenRow]    // by id; never that there is none
	pages       *cache.Cache[[]walletRow] // by owner, generations and query
	generations *cache.Cache[string]      // by owner; tokensGeneration
}

// tokensGeneration is the key of the generation of all tokens. No owner's is
// like it: those are UUIDs.
const tokensGeneration = "tokens"

// NewCaches makes the caches on r. Close them before it.
func NewCaches(r cache.Redis, o CacheOptions) *Caches {
	if o.Budget == 0 {
		o.Budget = CacheBudget
	}
	options := func(ttl time.Duration) cache.Options {
		return cache.Options{TTL: ttl, Budget: o.Budget, Log: o.Log}
	}
	name := func(entity string) cache.Namespace {
		return cache.Namespace{Service: "wallet", Entity: entity, Schema: 1}
	}
	return &Caches{
		tokens:      cache.New[tokenRow](r, name("token"), options(o.Token)),
		pages:       cache.New[[]walletRow](r, name("wallets"), options(o.Wallets)),
		generations: cache.New[string](r, name("generation"), options(generationTTL)),
	}
}

// Close ends what the caches do in the background.
func (c *Caches) Close() {
	c.tokens.Close()
	c.pages.Close()
	c.generations.Close()
}

// generation returns the present generations of keys in one name.
func (c *Caches) generation(ctx context.Context, keys ...string) (name string, err error) {
	found, err := c.generations.GetMany(ctx, keys,
		func(_ context.Context, missing []string) (map[string]string, error) {
			fresh := make(map[string]string, len(missing))
			for _, key := range missing {
				fresh[key] = rand.Text()
			}
			return fresh, nil
		})
	for _, key := range keys {
		name += "/" + found[key]
	}
	return name, err
}
