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
	"github.com/purserhq/purser/pkg/redact"
)

// Bounds of a RemoteKeys.
const (
	// unknownKeyPause is the least time between two fetches that an unknown
	// kid, a missing set or Refetch causes.
	unknownKeyPause = 10 * time.Second
	// refetchSpread is the time over which Refetch spreads the fetches.
	refetchSpread = 500 * time.Millisecond
	// serveWithout is how long known keys serve while the issuer is away.
	serveWithout = time.Hour
	maxKeySet    = 256 << 10
	fetchTimeout = 3 * time.Second
	// refreshMost is the longest time between two refreshes, so that a long
	// max-age doesn't let the keys run into serveWithout; retryAfter is the
	// longest after one that failed.
	refreshMost = serveWithout / 4
	retryAfter  = 30 * time.Second
)

// RemoteKeys is a KeySource that follows a JWKS document (RFC 7517) over
// HTTP. It fetches when first asked, then at half the document's max-age, at
// least every 15 minutes, give or take a tenth, with its ETag. It is safe for
// concurrent use. Close ends the refreshing.
type RemoteKeys struct {
	url    string
	client *http.Client
	log    *slog.Logger
	now    func() time.Time
	ctx    context.Context //nolint:containedctx // the lifetime of the refresher, ended by Close
	cancel context.CancelFunc
	done   chan struct{}
	end    sync.Once

	turn  chan struct{} // holds one: who may fetch; waiters find the result
	early chan struct{} // tells the refresher of a fetch out of its turn
	news  chan struct{} // asks the refresher for one

	mu        sync.RWMutex
	keys      map[string]Key
	etag      string
	maxAge    time.Duration
	fetchedAt time.Time // last time that the issuer confirmed the set
	triedAt   time.Time // last fetch begun for want of a key, or for Refetch
	away      bool      // the last fetch failed
}

// NewRemoteKeys follows the JWKS document at url. No call is made before a
// key is asked for or the refresher's first turn comes.
func NewRemoteKeys(url string, log *slog.Logger) *RemoteKeys {
	return newRemoteKeys(url, log, ownTransport())
}

func newRemoteKeys(url string, log *slog.Logger, transport http.RoundTripper) *RemoteKeys {
	ctx, cancel := context.WithCancel(context.Background())
	r := &RemoteKeys{
		url: url, log: log, now: time.Now, ctx: ctx, cancel: cancel,
		done: make(chan struct{}), turn: make(chan struct{}, 1), early: make(chan struct{}, 1),
		news: make(chan struct{}, 1), maxAge: time.Minute,
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

// ownTransport is the default one with connections of its own, for Close to
// close.
func ownTransport() http.RoundTripper {
	if t, ok := http.DefaultTransport.(*http.Transport); ok {
		return t.Clone()
	}
	return http.DefaultTransport
}

// Close ends the refreshing and waits for a fetch under way to be cut short;
// keys already known go on being served until they are an hour old.
func (r *RemoteKeys) Close() error {
	r.end.Do(func() {
		r.cancel()
		<-r.done
		r.turn <- struct{}{} // and never given back: nobody fetches any more
		r.client.CloseIdleConnections()
	})
	return nil
}

// Key implements KeySource.
func (r *RemoteKeys) Key(ctx context.Context, kid string) (Key, error) {
	if k, ok := r.known(kid); ok {
		return k, nil
	}
	if err := r.fetchForWant(ctx, kid); err != nil {
		return Key{}, err
	}
	if k, ok := r.known(kid); ok {
		return k, nil
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	// While the issuer is away its newest key may be one that is not known
	// here, so the token can't be called invalid.
	if r.away || r.fetchedAt.IsZero() || r.now().Sub(r.fetchedAt) > serveWithout {
		return Key{}, errs.Unavailable("KEYS_UNAVAILABLE", "the issuer's keys can't be read now")
	}
	return Key{}, ErrUnknownKey
}

func (r *RemoteKeys) known(kid string) (Key, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.now().Sub(r.fetchedAt) > serveWithout {
		return Key{}, false
	}
	k, ok := r.keys[kid]
	return k, ok
}

// fetchForWant fetches because kid is not known, unless that was done within
// unknownKeyPause. It waits for a fetch under way rather than start another,
// and no longer than ctx; the fetch itself goes on for whoever else waits.
func (r *RemoteKeys) fetchForWant(ctx context.Context, kid string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case r.turn <- struct{}{}:
	case <-r.ctx.Done():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
	if !r.wanted(kid) {
		<-r.turn
		return nil
	}
	fetched := make(chan struct{})
	go func() {
		defer close(fetched)
		defer func() { <-r.turn }()
		if err := r.fetch(r.ctx); err != nil { //nolint:contextcheck // it serves every waiter, not this one alone
			r.log.WarnContext(ctx, "fetch of the key set failed", "url", redact.URL(r.url),
				"error", redact.Error(err, r.url))
		}
		select {
		case r.early <- struct{}{}:
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

// wanted reports whether to fetch for kid now, and notes that it is done.
func (r *RemoteKeys) wanted(kid string) bool {
	if _, ok := r.known(kid); ok {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if !r.triedAt.IsZero() && now.Sub(r.triedAt) < unknownKeyPause && !r.neverFetched(now) {
		return false
	}
	r.triedAt = now
	return true
}

// neverFetched allows a try a second, not one in ten, until there is a set:
// at the start the issuer may be a moment behind.
func (r *RemoteKeys) neverFetched(now time.Time) bool {
	return r.fetchedAt.IsZero() && now.Sub(r.triedAt) >= time.Second
}

// Refetch has the set fetched within a second, for the issuer has said that it
// changed; when one was fetched so within the last ten seconds, after these. It
// doesn't wait for it.
func (r *RemoteKeys) Refetch() {
	select {
	case r.news <- struct{}{}:
	default: // one is asked for already
	}
}

// soon is the time until a fetch that Refetch asked for, and notes that it is
// done then; a refresh that comes sooner serves as well. A part of a second at
// random keeps the verifiers of a suite from asking at one moment.
func (r *RemoteKeys) soon(refresh time.Duration) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	at := now
	if next := r.triedAt.Add(unknownKeyPause); !r.triedAt.IsZero() && next.After(now) {
		at = next
	}
	wait := at.Sub(now) + rand.N(refetchSpread)
	if refresh <= wait {
		return refresh
	}
	r.triedAt = at
	return wait
}

func (r *RemoteKeys) refresh() {
	defer close(r.done)
	wait := r.pause()
	due, at := time.NewTimer(wait), time.Now().Add(wait) // by the timer's clock
	defer due.Stop()
	reset := func(wait time.Duration) {
		at = time.Now().Add(wait)
		due.Reset(wait)
	}
	asked := false // by Refetch
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-r.early:
			if !asked {
				reset(r.pause())
			}
			continue
		case <-r.news:
			if !asked {
				asked = true
				reset(r.soon(time.Until(at)))
			}
			continue
		case <-due.C:
			asked = false
		}
		r.turn <- struct{}{} // a fetch under way ends within fetchTimeout
		err := r.fetch(r.ctx)
		<-r.turn
		if err != nil && r.ctx.Err() == nil {
			r.log.Warn("refresh of the key set failed", "url", redact.URL(r.url),
				"error", redact.Error(err, r.url))
		}
		reset(r.pause())
	}
}

// pause is the time until the next refresh.
func (r *RemoteKeys) pause() time.Duration {
	r.mu.RLock()
	defer r.mu.RUnlock()
	d := min(r.maxAge/2, refreshMost)
	if r.away {
		d = min(d, retryAfter)
	}
	return d - d/10 + rand.N(d/5+1)
}

// fetch reads the key set and notes whether the issuer was there.
func (r *RemoteKeys) fetch(ctx context.Context) error {
	err := r.read(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.away = err != nil
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

// confirm notes that the issuer still serves the set that is known.
func (r *RemoteKeys) confirm(h http.Header, begun time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.keys == nil {
		return errors.New("status 304, and nothing is known")
	}
	r.fetchedAt, r.maxAge = begun, maxAge(h)
	return nil
}

// maxAge reads Cache-Control's max-age, within 2 s and a day; a minute when
// there is none.
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
