// Package pricefeed is what the clients of HTTP price feeds share: requests that are
// bounded in size and time, rests, and the reading of replies.
//
// It promises: a feed that failed is not called while it rests, which is as long as it
// asks for after "too many requests", within bounds; a redirect is not followed, since it
// could take a key elsewhere; no error has the feed's URL or key; a number is taken from
// the digits sent and never goes through a float; a member that occurs twice in a JSON
// object is ignored.
package pricefeed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/purserhq/purser/pkg/httpx"
	"github.com/purserhq/purser/pkg/redact"
	"github.com/purserhq/purser/services/internal/httponly"
	"github.com/purserhq/purser/services/wallet/internal/price"
)

const (
	// requestTimeout bounds one request.
	requestTimeout = 3 * time.Second
	// cooldown is how long a feed is not called after a failure.
	cooldown = 5 * time.Second
	// maxCooldown bounds how long a feed can ask not to be called.
	maxCooldown = 15 * time.Minute
	// maxReplyBytes bounds what is read of a reply.
	maxReplyBytes = 4 << 20
)

// ErrCoolingDown says that the feed was not called.
var ErrCoolingDown = errors.New("the price feed is in its cooldown after a failure")

// StatusError is a reply with another status than 200.
type StatusError struct {
	Status int
	// Body is the beginning of the reply.
	Body []byte
	// RetryAfter is how long the feed asks not to be called; 0 when it doesn't.
	RetryAfter time.Duration
}

func (e *StatusError) Error() string { return fmt.Sprintf("price feed: status %d", e.Status) }

// Client calls a feed. It is safe for concurrent use.
type Client struct {
	base   string
	header http.Header
	client *http.Client
	now    func() time.Time

	mu    sync.Mutex
	until time.Time // end of the cooldown
}

// New returns a client of the feed at base, the value of a setting. header is sent with
// each request.
func New(setting, base string, header http.Header, now func() time.Time) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New(setting + " must be an http or https URL")
	}
	return &Client{
		base: strings.TrimRight(base, "/"), header: header, now: now,
		client: &http.Client{Timeout: requestTimeout, Transport: httponly.Transport(httpx.Default()),
			CheckRedirect: func(*http.Request, []*http.Request) error {
				return errors.New("a price feed may not redirect")
			}},
	}, nil
}

// CheckCooldown returns ErrCoolingDown while the feed is not to be called.
func (c *Client) CheckCooldown() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now().Before(c.until) {
		return ErrCoolingDown
	}
	return nil
}

// NoteFailure begins the cooldown after an error, unless it is that of a caller who has left.
func (c *Client) NoteFailure(ctx context.Context, err error) {
	if !price.Failed(ctx, err) {
		return
	}
	wait := cooldown
	var status *StatusError
	if errors.As(err, &status) {
		wait = min(max(wait, status.RetryAfter), maxCooldown)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if until := c.now().Add(wait); until.After(c.until) {
		c.until = until
	}
}

// Get makes a request, also during a cooldown, and returns the reply, in which numbers that
// JSON doesn't have are null. The error is a StatusError when the feed answered so.
func (c *Client) Get(ctx context.Context, path string) (json.RawMessage, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, nil)
	if err != nil {
		return nil, fmt.Errorf("price request: %w", redact.Error(err, c.base))
	}
	for name, values := range c.header {
		req.Header[name] = values
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("price feed: %w", redact.Error(err, c.base))
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		const start = 4 << 10
		body, _ := io.ReadAll(io.LimitReader(resp.Body, start)) // what there is
		return nil, &StatusError{Status: resp.StatusCode, Body: body, RetryAfter: c.retryAfter(resp.Header)}
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxReplyBytes+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("price feed: %w", redact.Error(err, c.base))
	case len(body) > maxReplyBytes:
		return nil, fmt.Errorf("price feed: its reply has more than %d MiB", maxReplyBytes>>20)
	}
	return withoutNaN(body), nil
}

// retryAfter reads Retry-After, which is a number of seconds or a date (RFC 9110).
func (c *Client) retryAfter(h http.Header) time.Duration {
	text := strings.TrimSpace(h.Get("Retry-After"))
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, at.Sub(c.now()))
	}
	return 0
}
