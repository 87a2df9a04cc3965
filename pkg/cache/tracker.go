package cache

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"

	"github.com/purserhq/purser/pkg/deadline"
	"github.com/purserhq/purser/pkg/redisx"
)

const (
	// LocalBound is how long after an invalidation in Redis a value that a process keeps
	// may still be read there, at most.
	LocalBound = time.Second

	// probeTTL is how long values may be read after a probe was sent that arrived.
	// What remains of LocalBound is for messages of one moment, whose order Redis
	// doesn't promise.
	probeTTL      = 900 * time.Millisecond
	probeInterval = 200 * time.Millisecond
	probeRetry    = 20 * time.Millisecond
	trackTimeout  = 3 * time.Second // for the first probe of a connection
	trackRetry    = time.Second
	// maxProbeIDs are tried to find a key of each master, which may have one of the 16,384 slots.
	maxProbeIDs = 200_000
)

// Tracker follows what Redis invalidates, on a connection of its own to each master, so
// that the caches of a process whose Options.Local it is may keep values in memory.
//
// Promise: values are read from memory only while a probe, a key that the caches' client
// has set in the last 0.9 s, has arrived as an invalidation on the same connection. So
// nothing is read that was invalidated in Redis more than LocalBound ago, whatever has
// become of the connection, the server or the network. When a connection ends or is silent,
// or another server became the master, everything is dropped, and Redis is read until the
// next connection has delivered a probe.
//
// Limits: a machine that is suspended, clock and all, reads what it had for what was left
// of that time when it goes on. While a Cluster moves slots to a master that has none yet,
// values of these slots are not followed there.
//
// Redis has to be 6 or newer and to allow HELLO and CLIENT TRACKING. Otherwise the
// caches work without local values, and a warning says so once.
type Tracker struct {
	redis redis.UniversalClient
	probe string // prefix of the probes' keys, this process's alone
	// probes counts them; only Serve's goroutine does. Numbers are never reused, because Redis also
	// announces expiry.
	probes int64
	log    *slog.Logger
	began  time.Time
	until  atomic.Int64 // until when values may be read, in nanoseconds after began; 0 for not
	drops  metric.Int64Counter

	mu     sync.Mutex
	stores []store
}

// store is the local values of one cache.
type store interface {
	keyPrefix() string
	invalidated(key string) // of any cache
	drop()
}

// NewTracker makes a Tracker for caches on r. service is that of their Namespace. log
// receives a line when tracking begins and ends; nil means none. Nothing is kept
// until Serve runs.
func NewTracker(r redis.UniversalClient, service string, log *slog.Logger) *Tracker {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	t := &Tracker{redis: r, log: log, began: time.Now(),
		probe: fmt.Sprintf("purser:%s:probe:%s:", url.QueryEscape(service), rand.Text()),
		drops: counter("cache_local_drops_total", "Times that all local values were dropped.")}
	t.drops.Add(context.Background(), 0)
	return t
}

// observe measures whether t tracks, until the function that it returns is called.
func (t *Tracker) observe() (end func()) {
	meter := otel.Meter(scope)
	tracked, _ := meter.Int64ObservableGauge("cache_local_tracked",
		metric.WithDescription("1 while values may be read from memory."))
	r, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		if t.tracked() {
			o.ObserveInt64(tracked, 1)
		} else {
			o.ObserveInt64(tracked, 0)
		}
		return nil
	}, tracked)
	return func() {
		if err == nil {
			_ = r.Unregister()
		}
	}
}

func (t *Tracker) clock() time.Duration { return time.Since(t.began) }

func (t *Tracker) trusted() time.Duration { return time.Duration(t.until.Load()) }

// trust lets values be read until end, unless caches have come or gone.
func (t *Tracker) trust(followed []store, end time.Duration) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !slices.Equal(t.stores, followed) {
		return errChanged
	}
	t.until.Store(int64(end))
	return nil
}

// tracked reports whether values may be read from memory.
func (t *Tracker) tracked() bool { return t.clock() < t.trusted() }

func (t *Tracker) add(s store) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stores = append(t.stores, s)
	t.until.Store(0) // until s is followed too
}

func (t *Tracker) remove(s store) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stores = slices.DeleteFunc(t.stores, func(o store) bool { return o == s })
}

func (t *Tracker) all() []store {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.stores)
}

// Serve tracks until ctx ends. Errors are logged and tried again after a second; Serve
// itself returns nil.
func (t *Tracker) Serve(ctx context.Context) error {
	defer t.observe()()
	silent := false // the log knows that nothing is tracked
	for {
		began, err := t.track(ctx)
		t.drop(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if (began || !silent) && !errors.Is(err, errChanged) {
			t.log.WarnContext(ctx, "cache: nothing is kept in memory, reading from redis", "error", err)
			silent = true
		}
		if !errors.Is(err, errChanged) && deadline.Pause(ctx, trackRetry) != nil {
			return nil
		}
	}
}

func (t *Tracker) drop(ctx context.Context) {
	if t.until.Swap(0) != 0 {
		t.drops.Add(ctx, 1)
	}
	for _, s := range t.all() {
		s.drop()
	}
}

var (
	errSilent  = errors.New("cache: invalidations don't arrive")
	errLost    = errors.New("cache: the connection for invalidations was lost")
	errChanged = errors.New("cache: other caches are to be tracked")
	errMasters = errors.New("cache: the cluster has other masters")
	errNoKey   = errors.New("cache: no key of a master was found to probe it with")
)

// track follows the present caches and masters until one fails. It reports whether
// values were kept meanwhile.
func (t *Tracker) track(ctx context.Context) (began bool, err error) {
	stores := t.all()
	nodes, err := t.masters(ctx)
	if err != nil {
		return false, err
	}
	s := newSession(t, stores, nodes)
	defer s.close()
	s.start(ctx, nodes)
	wait := trackTimeout
	for {
		sent := t.clock()
		if err := s.confirm(ctx, wait); err != nil {
			return began, err
		}
		if err := t.trust(stores, sent+probeTTL); err != nil {
			return began, err
		}
		if wait = probeTTL; !began {
			t.log.InfoContext(ctx, "cache: values are kept in memory")
			began = true
		}
		select {
		case <-ctx.Done():
			return began, ctx.Err()
		case err := <-s.failed:
			return began, err
		case <-time.After(probeInterval):
		}
		if err := t.sameMasters(ctx, nodes); err != nil {
			return began, err
		}
	}
}

// masters returns the options of each master by its address, and for a Cluster an id
// whose key it has.
func (t *Tracker) masters(ctx context.Context) (map[string]node, error) {
	ctx, cancel := context.WithTimeout(ctx, trackTimeout)
	defer cancel()
	switch c := t.redis.(type) {
	case *redis.Client:
		return map[string]node{c.Options().Addr: {c.Options(), "0"}}, nil
	case *redis.ClusterClient:
		nodes, err := clusterMasters(ctx, c)
		for i, missing := 0, len(nodes); err == nil && missing > 0; i++ {
			if i == maxProbeIDs {
				return nil, errNoKey
			}
			id := fmt.Sprint(i)
			has, err := c.MasterForKey(ctx, redisx.Key(t.probe, id))
			if err != nil {
				return nil, fmt.Errorf("cache: %w", err)
			}
			if n, ok := nodes[has.Options().Addr]; ok && n.id == "" {
				nodes[has.Options().Addr] = node{n.options, id}
				missing--
			}
		}
		return nodes, err
	}
	return nil, fmt.Errorf("cache: a %T can't be tracked", t.redis)
}

func clusterMasters(ctx context.Context, c *redis.ClusterClient) (map[string]node, error) {
	var mu sync.Mutex
	nodes := map[string]node{}
	err := c.ForEachMaster(ctx, func(_ context.Context, n *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		nodes[n.Options().Addr] = node{options: n.Options()}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	return nodes, nil
}

// sameMasters returns errMasters when a Cluster has other masters than nodes.
func (t *Tracker) sameMasters(ctx context.Context, nodes map[string]node) error {
	c, ok := t.redis.(*redis.ClusterClient)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, probeTTL)
	defer cancel()
	now, err := clusterMasters(ctx, c)
	if err != nil {
		return err
	}
	for address := range now {
		if _, ok := nodes[address]; !ok {
			return errMasters
		}
	}
	if len(now) != len(nodes) {
		return errMasters
	}
	return nil
}

// invalidated tells the caches of a message; no keys are all keys.
func invalidated(stores []store, keys []any) {
	for _, s := range stores {
		if keys == nil {
			s.drop()
		}
	}
	for _, k := range keys {
		key, _ := k.(string)
		for _, s := range stores {
			s.invalidated(key)
		}
	}
}
