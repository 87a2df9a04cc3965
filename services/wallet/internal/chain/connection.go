package chain

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/ethereum/go-ethereum/rpc"

	"github.com/purserhq/purser/pkg/httpx"
	"github.com/purserhq/purser/services/internal/httponly"
)

// connection makes the calls to a node. It is safe for concurrent use.
type connection interface {
	call(ctx context.Context, result any, method string, args ...any) error
	// batch makes calls together, and sets the result or the error of each.
	batch(ctx context.Context, calls []rpc.BatchElem) error
	close()
}

// httpConnection is one over HTTP.
type httpConnection struct{ client *rpc.Client }

func newHTTP(rawURL string, u *url.URL, setRetryAfter func(until time.Time),
	now func() time.Time) (httpConnection, error) {
	transport := httpx.Default()
	transport.MaxIdleConnsPerHost = 8
	// On one machine compression takes more time than it saves.
	transport.DisableCompression = net.ParseIP(u.Hostname()).IsLoopback()
	c, err := rpc.DialOptions(context.Background(), rawURL, rpc.WithHTTPClient(&http.Client{
		Timeout:   callTimeout,
		Transport: limitedTransport{httponly.Transport(transport), setRetryAfter, now},
		CheckRedirect: func(r *http.Request, _ []*http.Request) error {
			return &redirectError{r.URL}
		},
	}))
	return httpConnection{c}, err
}

func (h httpConnection) call(ctx context.Context, result any, method string, args ...any) error {
	return answerIn(h.client.CallContext(ctx, result, method, args...))
}

func (h httpConnection) batch(ctx context.Context, calls []rpc.BatchElem) error {
	return h.client.BatchCallContext(ctx, calls)
}

func (h httpConnection) close() { h.client.Close() }

// limitedTransport cuts replies at maxReplyBytes, so that a hostile node can't
// fill the memory, and tells until when an answer asks not to be called.
type limitedTransport struct {
	http.RoundTripper
	setRetryAfter func(until time.Time)
	now           func() time.Time
}

func (b limitedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if asked := resp.Header.Get("Retry-After"); asked != "" {
		if seconds, err := strconv.ParseUint(asked, 10, 31); err == nil {
			b.setRetryAfter(b.now().Add(time.Duration(seconds) * time.Second))
		} else if at, err := http.ParseTime(asked); err == nil {
			b.setRetryAfter(at)
		}
	}
	resp.Body = &limitedBody{Reader: io.LimitReader(resp.Body, maxReplyBytes), Closer: resp.Body}
	return resp, nil
}

type limitedBody struct {
	io.Reader
	io.Closer
}
