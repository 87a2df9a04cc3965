package authn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/httpx"
	"github.com/purserhq/purser/pkg/redact"
)

// Bounds of a RemoteKeys.
const (
	// minFetchInterval is the time from one fetch outside of the schedule to the
	// next: for an unknown kid, a missing set or Refetch.
	minFetchInterval = 10 * time.Second
	// refetchSpread bounds the random delay of a fetch by Refetch, so that the
	// verifiers of a suite don't fetch at the same moment.
	refetchSpread = 500 * time.Millisecond
	// maxKeySetAge is how long keys are used after the issuer last confirmed them.
	maxKeySetAge = time.Hour
	// maxKeySet is the largest document that is read, in bytes.
	maxKeySet    = 256 << 10
	fetchTimeout = 3 * time.Second
	// maxRefreshInterval is the longest time between two refreshes, whatever the
	// document's max-age, so that there are several tries within maxKeySetAge;
	// maxRetryInterval is the longest after a refresh that failed.
	maxRefreshInterval = maxKeySetAge / 4
	maxRetryInterval   = 30 * time.Second
)

// RemoteKeys is a KeySource that reads a JWKS document (RFC 7517) over HTTP and
// refreshes it in the background: after half the document's max-age, at the
// latest after 15 minutes, both varied by up to a tenth, with its ETag. It is
// safe for concurrent use. Close ends the refreshing.
type RemoteKeys struct {
	url    string
	client *http.Client
	log    *slog.Logger
	now    func() time.Time
	ctx    context.Context //nolint:containedctx // the lifetime of the refresher, ended by Close
	cancel context.CancelFunc
	done   chan struct{}
	end    sync.Once

	fetchSlot chan struct{} // holds one element: who may fetch; the others find the result
	fetched   chan struct{} // a fetch outside of the schedule has ended
	refetch   chan struct{} // Refetch was called

	mu          sync.RWMutex
	keys        map[string]Key
	etag        string
	maxAge      time.Duration
	fetchedAt   time.Time // last time that the issuer confirmed the set
	lastAttempt time.Time // last fetch begun for want of a key, or for Refetch
	lastFailed  bool      // the last fetch
}

// NewRemoteKeys reads the JWKS document at url. The first fetch is that of the
// first call of Key, or of the first refresh.
func NewRemoteKeys(url string, log *slog.Logger) *RemoteKeys {
	return newRemoteKeys(url, log, httpx.Default())
}

func newRemoteKeys(url string, log *slog.Logger, transport http.RoundTripper) *RemoteKeys {
	ctx, cancel := context.WithCancel(context.Background())
	r := &RemoteKeys{
		url: url, log: log, now: time.Now, ctx: ctx, cancel: cancel,
		done: make(chan struct{}), fetchSlot: make(chan struct{}, 1), fetched: make(chan struct{}, 1),
		refetch: make(chan struct{}, 1), maxAge: time.Minute,
		client: &http.Client{
			Transport: transport, Timeout: fetchTimeout,
			CheckRedirect: func(*http.Request, []*http.Request) error {
				return errors.New("a key set may not redirect")
			},
		},
	}
	go r.refresh()
	return r
}

// Close ends the refreshing, cancels a fetch in progress and waits for it. Keys
// that are known stay in use until they are an hour old.
func (r *RemoteKeys) Close() error {
	r.end.Do(func() {
		r.cancel()
		<-r.done
		r.fetchSlot <- struct{}{} // never released, so that nothing fetches any more
		r.client.CloseIdleConnections()
	})
	return nil
}

// Key implements KeySource.
func (r *RemoteKeys) Key(ctx context.Context, kid string) (Key, error) {
	if k, ok := r.lookup(kid); ok {
		return k, nil
	}
	if err := r.fetchUnknown(ctx, kid); err != nil {
		return Key{}, err
	}
	if k, ok := r.lookup(kid); ok {
		return k, nil
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	// While the issuer is unavailable this may be a new key of it, so the token
	// can't be called invalid.
	if r.lastFailed || r.fetchedAt.IsZero() || r.now().Sub(r.fetchedAt) > maxKeySetAge {
		return Key{}, errs.Unavailable("KEYS_UNAVAILABLE", "the issuer's keys can't be read now")
	}
	return Key{}, ErrUnknownKey
}

func (r *RemoteKeys) lookup(kid string) (Key, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.now().Sub(r.fetchedAt) > maxKeySetAge {
		return Key{}, false
	}
	k, ok := r.keys[kid]
	return k, ok
}

// fetchUnknown fetches the set because it has no key kid, unless mayFetch
// refuses. It waits for a fetch in progress instead of starting another, at most
// until ctx ends; the fetch itself goes on for other callers.
func (r *RemoteKeys) fetchUnknown(ctx context.Context, kid string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case r.fetchSlot <- struct{}{}:
	case <-r.ctx.Done():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
	if !r.mayFetch(kid) {
		<-r.fetchSlot
		return nil
	}
	fetched := make(chan struct{})
	go func() {
		defer close(fetched)
		defer func() { <-r.fetchSlot }()
		if err := r.fetch(r.ctx); err != nil { // r.ctx: the fetch is for all callers
			r.log.WarnContext(ctx, "fetch of the key set failed", "url", redact.URL(r.url),
				"error", redact.Error(err, r.url))
		}
		select {
		case r.fetched <- struct{}{}:
		default:
		}
	}()
	select {
	case <-fetched:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// mayFetch reports whether to fetch the set for kid now: when kid is still
// unknown and minFetchInterval has passed since the last attempt. If so it counts
// as an attempt.
func (r *RemoteKeys) mayFetch(kid string) bool {
	if _, ok := r.lookup(kid); ok {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if !r.lastAttempt.IsZero() && now.Sub(r.lastAttempt) < minFetchInterval && !r.mayFetchFirst(now) {
		return false
	}
	r.lastAttempt = now
	return true
}

// mayFetchFirst allows one attempt a second until there is a set: when a suite
// starts the issuer may be ready a moment later than its verifiers.
func (r *RemoteKeys) mayFetchFirst(now time.Time) bool {
	return r.fetchedAt.IsZero() && now.Sub(r.lastAttempt) >= time.Second
}

// Refetch has the set fetched within a second, because the issuer said that it
// changed; not before ten seconds have passed since the last fetch of this kind.
// It doesn't wait for the fetch.
func (r *RemoteKeys) Refetch() {
	select {
	case r.refetch <- struct{}{}:
	default: // a refetch is requested already
	}
}

// refetchDelay returns the time until the fetch that Refetch requests, which it
// counts as an attempt: not before minFetchInterval has passed, and not after the
// next refresh, which is in refresh.
func (r *RemoteKeys) refetchDelay(refresh time.Duration) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	at := now
	if next := r.lastAttempt.Add(minFetchInterval); !r.lastAttempt.IsZero() && next.After(now) {
		at = next
	}
	wait := at.Sub(now) + rand.N(refetchSpread)
	if refresh <= wait {
		return refresh
	}
	r.lastAttempt = at
	return wait
}

func (r *RemoteKeys) refresh() {
	defer close(r.done)
	wait := r.refreshDelay()
	due, at := time.NewTimer(wait), time.Now().Add(wait) // by the timer's clock
	defer due.Stop()
	reset := func(wait time.Duration) {
		at = time.Now().Add(wait)
		due.Reset(wait)
	}
	refetching := false // by Refetch
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-r.fetched:
			if !refetching {
				reset(r.refreshDelay())
			}
			continue
		case <-r.refetch:
			if !refetching {
				refetching = true
				reset(r.refetchDelay(time.Until(at)))
			}
			continue
		case <-due.C:
			refetching = false
		}
		r.fetchSlot <- struct{}{} // a fetch in progress ends within fetchTimeout
		err := r.fetch(r.ctx)
		<-r.fetchSlot
		if err != nil && r.ctx.Err() == nil {
			r.log.Warn("refresh of the key set failed", "url", redact.URL(r.url),
				"error", redact.Error(err, r.url))
		}
		reset(r.refreshDelay())
	}
}

// refreshDelay returns the time until the next refresh.
func (r *RemoteKeys) refreshDelay() time.Duration {
	r.mu.RLock()
	defer r.mu.RUnlock()
	d := min(r.maxAge/2, maxRefreshInterval)
	if r.lastFailed {
		d = min(d, maxRetryInterval)
	}
	return d - d/10 + rand.N(d/5+1)
}

// fetch reads the key set and records whether that succeeded.
func (r *RemoteKeys) fetch(ctx context.Context) error {
	err := r.read(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lastFailed = err != nil
	return err
}

func (r *RemoteKeys) read(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url, nil)
	if err != nil {
		return fmt.Errorf("request: %w", err)
	}
	r.mu.RLock()
	if r.etag != "" {
		req.Header.Set("If-None-Match", r.etag)
	}
	r.mu.RUnlock()
	begun := r.now()
	resp, err := r.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	switch resp.StatusCode {
	case http.StatusNotModified:
		return r.confirm(resp.Header, begun)
	case http.StatusOK:
		return r.store(resp, begun)
	default:
		return fmt.Errorf("status %d", resp.StatusCode)
	}
}

func (r *RemoteKeys) store(resp *http.Response, begun time.Time) error {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxKeySet+1))
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if len(body) > maxKeySet {
		return errors.New("the key set is too large")
	}
	keys, err := parseKeySet(body)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys, r.etag, r.fetchedAt, r.maxAge = keys, resp.Header.Get("ETag"), begun, maxAge(resp.Header)
	return nil
}

// confirm records that the issuer still serves the known set.
func (r *RemoteKeys) confirm(h http.Header, begun time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.keys == nil {
		return errors.New("status 304 without a known key set")
	}
	r.fetchedAt, r.maxAge = begun, maxAge(h)
	return nil
}

// maxAge returns the max-age of Cache-Control, clamped to between 2 seconds and
// a day; a minute when there is none.
func maxAge(h http.Header) time.Duration {
	for _, d := range strings.Split(h.Get("Cache-Control"), ",") {
		v, ok := strings.CutPrefix(strings.TrimSpace(d), "max-age=")
		if !ok {
			continue
		}
		if s, err := strconv.Atoi(v); err == nil {
			return time.Duration(min(max(s, 2), 24*60*60)) * time.Second
		}
	}
	return time.Minute
}
