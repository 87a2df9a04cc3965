package cache

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/push"

	"github.com/purserhq/purser/pkg/deadline"
	"github.com/purserhq/purser/pkg/redisx"
)

// node is a master.
type node struct {
	options *redis.Options
	id      string // a probe's, whose key this master has
}

// session is the connections that are tracked together: one to each master.
type session struct {
	tracker *Tracker
	stores  []store
	ids     map[string]string // of probes, by the address of the master that has the key
	failed  chan error
	work    sync.WaitGroup
	clients []*redis.Client
	subs    []*redis.PubSub

	mu        sync.Mutex
	connected map[string]bool
	missing   int               // connections that don't exist yet
	ready     chan struct{}     // closed when none is missing
	pending   map[string]string // keys of the probe under way that have not arrived, with the address to arrive from
	arrived   chan struct{}     // closed when none is pending
}

func newSession(t *Tracker, stores []store, nodes map[string]node) *session {
	s := &session{tracker: t, stores: stores, failed: make(chan error, 1), connected: map[string]bool{},
		missing: len(nodes), ready: make(chan struct{}), ids: map[string]string{}}
	for address, n := range nodes {
		s.ids[address] = n.id
	}
	return s
}

func (s *session) fail(err error) {
	select {
	case s.failed <- err:
	default: // the first one is told
	}
}

// start connects in the background.
func (s *session) start(ctx context.Context, nodes map[string]node) {
	for address, n := range nodes {
		o := *n.options
		o.Protocol, o.PoolSize, o.MinIdleConns = 3, 1, 0
		o.ReadTimeout, o.WriteTimeout = trackTimeout, trackTimeout // of connecting
		o.PushNotificationProcessor = push.NewProcessor()
		o.OnConnect = func(ctx context.Context, c *redis.Conn) error { return s.connect(ctx, address, c) }
		client := redis.NewClient(&o)
		if err := client.RegisterPushNotificationHandler("invalidate", arrivals{s, address}, true); err != nil {
			s.fail(fmt.Errorf("cache: %w", err))
		}
		sub := client.Subscribe(ctx)
		s.clients, s.subs = append(s.clients, client), append(s.subs, sub)
		s.work.Go(func() {
			for {
				// Messages are handled meanwhile. Silence is confirm's to notice.
				if _, err := sub.ReceiveTimeout(ctx, 0); err != nil {
					s.fail(fmt.Errorf("%w: %w", errLost, err))
					return
				}
			}
		})
	}
}

// connect begins the tracking of a new connection. A second one to a master means that
// messages of the first may be lost.
func (s *session) connect(ctx context.Context, address string, c *redis.Conn) error {
	command := []any{"client", "tracking", "on", "bcast", "prefix", s.tracker.probe}
	var prefixes []string
	for _, store := range s.stores {
		if p := store.keyPrefix(); !slices.Contains(prefixes, p) { // Redis refuses one that stands twice
			prefixes, command = append(prefixes, p), append(command, "prefix", p)
		}
	}
	if err := c.Do(ctx, command...).Err(); err != nil {
		return fmt.Errorf("cache: CLIENT TRACKING: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.connected[address] {
		return errLost
	}
	s.connected[address] = true
	if s.missing--; s.missing == 0 {
		close(s.ready)
	}
	return nil
}

// arrivals are the messages of the connection to one master.
type arrivals struct {
	*session
	address string
}

// HandlePushNotification is called for each message, one after the other on a
// connection. A probe proves the connection to the master that has its key, and no other.
func (s arrivals) HandlePushNotification(_ context.Context, _ push.NotificationHandlerContext, message []any) error {
	var keys []any
	if len(message) > 1 {
		keys, _ = message[1].([]any)
	}
	invalidated(s.stores, keys)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range keys {
		key, _ := k.(string)
		if from, ok := s.pending[key]; ok && from == s.address {
			delete(s.pending, key)
			if len(s.pending) == 0 {
				close(s.arrived)
			}
		}
	}
	return nil
}

// confirm sets a key on each master and waits until they have arrived as
// invalidations.
func (s *session) confirm(ctx context.Context, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	select {
	case <-s.ready:
	case err := <-s.failed:
		return err
	case <-ctx.Done():
		return errSilent
	}
	s.tracker.probes++
	s.mu.Lock()
	s.pending, s.arrived = make(map[string]string, len(s.ids)), make(chan struct{})
	keys := make([]string, 0, len(s.ids))
	for address, id := range s.ids {
		key := fmt.Sprint(redisx.Key(s.tracker.probe, id), s.tracker.probes)
		keys, s.pending[key] = append(keys, key), address
	}
	arrived := s.arrived
	s.mu.Unlock()
	for _, key := range keys {
		for s.tracker.redis.Set(ctx, key, "", LocalBound).Err() != nil { // one slow answer is no loss
			if deadline.Pause(ctx, probeRetry) != nil {
				return errSilent
			}
		}
	}
	select {
	case <-arrived:
		return nil
	case err := <-s.failed:
		return err
	case <-ctx.Done():
		return errSilent
	}
}

func (s *session) close() {
	for _, sub := range s.subs {
		_ = sub.Close()
	}
	for _, client := range s.clients {
		_ = client.Close()
	}
	s.work.Wait()
}
