package authn

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
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

	"github.com/go-jose/go-jose/v4"

	"github.com/purserhq/purser/pkg/errs"
)

// Bounds of a RemoteKeys.
const (
	// unknownKeyPause is the least time between two fetches that an unknown
	// kid or a missing set causes.
	unknownKeyPause = 10 * time.Second
	// serveWithout is how long known keys serve while the issuer is away.
	serveWithout = time.Hour
	maxKeySet    = 256 << 10
	fetchTimeout = 3 * time.Second
)

// RemoteKeys is a KeySource that follows a JWKS document (RFC 7517) over
// HTTP. It fetches when first asked, then at half the document's max-age,
// give or take a tenth, with its ETag. It is safe for concurrent use. Close
// ends the refreshing.
type RemoteKeys struct {
	url    string
	client *http.Client
	log    *slog.Logger
	now    func() time.Time
	ctx    context.Context //nolint:containedctx // the lifetime of the refresher, ended by Close
	cancel context.CancelFunc
	done   chan struct{}

	fetching sync.Mutex // one fetch at a time; waiters find its result

	mu        sync.RWMutex
	keys      map[string]Key
	etag      string
	maxAge    time.Duration
	fetchedAt time.Time // last time that the issuer confirmed the set
	triedAt   time.Time // last fetch begun for want of a key
}

// NewRemoteKeys follows the JWKS document at url. No call is made before a
// key is asked for or the refresher's first turn comes.
func NewRemoteKeys(url string, log *slog.Logger) *RemoteKeys {
	ctx, cancel := context.WithCancel(context.Background())
	r := &RemoteKeys{
		url: url, log: log, now: time.Now, ctx: ctx, cancel: cancel,
		done: make(chan struct{}), maxAge: time.Minute,
		client: &http.Client{
			Timeout: fetchTimeout,
			CheckRedirect: func(*http.Request, []*http.Request) error {
				return errors.New("a key set may not redirect")
			},
		},
	}
	go r.refresh()
	return r
}

// Close ends the refreshing; keys already known go on being served.
func (r *RemoteKeys) Close() error {
	r.cancel()
	<-r.done
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
	if r.fetchedAt.IsZero() || r.now().Sub(r.fetchedAt) > serveWithout {
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
// unknownKeyPause. It waits for a fetch under way rather than start another.
func (r *RemoteKeys) fetchForWant(ctx context.Context, kid string) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	r.fetching.Lock()
	defer r.fetching.Unlock()
	if _, ok := r.known(kid); ok {
		return nil
	}
	r.mu.Lock()
	now := r.now()
	if !r.triedAt.IsZero() && now.Sub(r.triedAt) < unknownKeyPause && !r.neverFetched(now) {
		r.mu.Unlock()
		return nil
	}
	r.triedAt = now
	r.mu.Unlock()
	if err := r.fetch(r.ctx); err != nil { //nolint:contextcheck // the fetch serves every waiter, not this one alone
		r.log.WarnContext(ctx, "fetch of the key set failed", "url", r.url, "error", err)
	}
	return nil
}

// neverFetched allows a try a second, not one in ten, until there is a set:
// at the start the issuer may be a moment behind.
func (r *RemoteKeys) neverFetched(now time.Time) bool {
	return r.fetchedAt.IsZero() && now.Sub(r.triedAt) >= time.Second
}

func (r *RemoteKeys) refresh() {
	defer close(r.done)
	for {
		r.mu.RLock()
		half := r.maxAge / 2
		r.mu.RUnlock()
		wait := half - half/10 + rand.N(half/5+1)
		timer := time.NewTimer(wait)
		select {
		case <-r.ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		r.fetching.Lock()
		err := r.fetch(r.ctx)
		r.fetching.Unlock()
		if err != nil && r.ctx.Err() == nil {
			r.log.Warn("refresh of the key set failed", "url", r.url, "error", err)
		}
	}
}

func (r *RemoteKeys) fetch(ctx context.Context) error {
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
		r.mu.Lock()
		r.fetchedAt, r.maxAge = begun, maxAge(resp.Header)
		r.mu.Unlock()
		return nil
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

// parseKeySet reads the signing keys of a JWKS document and passes over
// those of kinds that Purser doesn't sign with. An empty set is an error:
// nobody serves one on purpose.
func parseKeySet(body []byte) (map[string]Key, error) {
	var doc struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return nil, fmt.Errorf("parse key set: %w", err)
	}
	keys := make(map[string]Key, len(doc.Keys))
	for _, raw := range doc.Keys {
		var jwk jose.JSONWebKey
		if err := jwk.UnmarshalJSON(raw); err != nil || jwk.KeyID == "" || !jwk.IsPublic() {
			continue
		}
		if jwk.Use != "" && jwk.Use != "sig" {
			continue
		}
		if alg := algorithm(jwk); alg != "" {
			keys[jwk.KeyID] = Key{Algorithm: alg, Public: jwk.Key}
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("the key set has no usable key")
	}
	return keys, nil
}

func algorithm(jwk jose.JSONWebKey) string {
	var alg string
	switch k := jwk.Key.(type) {
	case ed25519.PublicKey:
		alg = "EdDSA"
	case *ecdsa.PublicKey:
		if k.Curve.Params().BitSize == 256 {
			alg = "ES256"
		}
	case *rsa.PublicKey:
		if k.N.BitLen() >= 2048 {
			alg = "RS256"
		}
	}
	if jwk.Algorithm != "" && jwk.Algorithm != alg {
		return ""
	}
	return alg
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
			return min(max(time.Duration(s)*time.Second, 2*time.Second), 24*time.Hour)
		}
	}
	return time.Minute
}
