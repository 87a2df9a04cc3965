package prices

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/purserhq/purser/services/devstack/loopback"
)

// Coin is a coin of the feed.
type Coin struct {
	// Keys are its names in requests, such as "local:0xaddress" or "coingecko:ethereum". Case is ignored.
	Keys []string
	// Symbol for PriceAt. A coin whose symbol PriceAt does not know has no price and is absent from every answer.
	Symbol string
	// Decimals is the number of decimals of the token.
	Decimals uint8
}

// Options of a feed. Only Coins is required.
type Options struct {
	// Coins are the coins that the feed knows.
	Coins []Coin
	// Addr is the loopback address to listen on; port 0 lets the system choose. The default is 127.0.0.1:0.
	Addr string
	// Now is the clock; the default is time.Now. There are no prices after it.
	Now func() time.Time
	// After is the timer behind Faults.Delay; the default is time.After.
	After func(time.Duration) <-chan time.Time
	// Faults is how the feed misbehaves from the start. SetFaults changes it.
	Faults Faults
}

// Feed is a running price feed. Its methods are safe for concurrent use.
type Feed struct {
	coins map[string]Coin
	now   func() time.Time
	after func(time.Duration) <-chan time.Time

	mu            sync.Mutex
	faults        Faults
	requests      int
	chartRequests int

	listener net.Listener
	server   *http.Server
	served   chan error
	closing  sync.Once
	closeErr error
}

// Start serves a feed until Close.
func Start(ctx context.Context, o Options) (*Feed, error) {
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	listener, err := loopback.Listen(ctx, o.Addr)
	if err != nil {
		return nil, fmt.Errorf("prices: %w", err)
	}
	f := newFeed(o)
	f.listener = listener
	f.server = &http.Server{Handler: f.Handler(), ReadHeaderTimeout: 5 * time.Second}
	go func() { f.served <- f.server.Serve(listener) }()
	return f, nil
}

func newFeed(o Options) *Feed {
	f := &Feed{
		coins:  map[string]Coin{},
		now:    o.Now,
		after:  o.After,
		faults: o.Faults,
		served: make(chan error, 1),
	}
	if f.now == nil {
		f.now = time.Now
	}
	if f.after == nil {
		f.after = time.After
	}
	for _, coin := range o.Coins {
		for _, key := range coin.Keys {
			f.coins[fold(key)] = coin
		}
	}
	return f
}

// URL is where the feed is served, such as http://127.0.0.1:9000.
func (f *Feed) URL() string { return "http://" + f.listener.Addr().String() }

// Requests is the number of requests received so far.
func (f *Feed) Requests() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests
}

// ChartRequests is the number of requests for charts, which prices of the past are read from. Others may come at any
// time, to see whether the feed answers.
func (f *Feed) ChartRequests() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.chartRequests
}

// SetFaults changes how the feed misbehaves, from the next request on.
func (f *Feed) SetFaults(faults Faults) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = faults
}

// Close stops the feed at once. It can be called twice.
func (f *Feed) Close() error {
	f.closing.Do(func() {
		f.closeErr = f.server.Close()
		if err := <-f.served; !errors.Is(err, http.ErrServerClosed) {
			f.closeErr = errors.Join(f.closeErr, err)
		}
	})
	return f.closeErr
}
