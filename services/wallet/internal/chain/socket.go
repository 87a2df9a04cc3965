package chain

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/rpc"
	"github.com/gorilla/websocket"
)

// socket is a connection over WebSocket (RFC 6455). It is opened at the first call, and again after it has ended. The
// client pings a connection that has nothing to do every 30 seconds, and takes one without an answer for ended.
type socket struct {
	url string
	// opening is held by the one that opens the connection.
	opening chan struct{}

	mu       sync.Mutex
	client   *rpc.Client   // nil while there is none
	ended    chan struct{} // closed when nothing more can come from the client's connection
	answered time.Time     // when the last answer came
	closed   bool
}

// watchedConn tells when nothing more can be read from it.
type watchedConn struct {
	net.Conn
	once  sync.Once
	ended chan struct{}
}

func (c *watchedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil {
		c.once.Do(func() { close(c.ended) })
	}
	return n, err
}

func newSocket(url string) *socket { return &socket{url: url, opening: make(chan struct{}, 1)} }

// socketError is about a connection that could not be opened, or that ended.
type socketError struct {
	text string // of what happened, for callers
	err  error
}

func (e *socketError) Error() string { return "websocket: " + e.text + ": " + e.err.Error() }
func (e *socketError) Unwrap() error { return e.err }

// silentAfter is how long a call was without an answer on a connection that is left then.
const silentAfter = pastCallTimeout

var errSocketClosed = errors.New("the reader was closed")

// open returns the connection's client.
func (s *socket) open(ctx context.Context) (*rpc.Client, error) {
	select {
	case s.opening <- struct{}{}:
		defer func() { <-s.opening }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s.mu.Lock()
	client, closed := s.client, s.closed
	s.mu.Unlock()
	if closed {
		return nil, errSocketClosed
	}
	if client != nil {
		return client, nil
	}
	dialer := websocket.Dialer{Proxy: http.ProxyFromEnvironment, HandshakeTimeout: callTimeout,
		NetDialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			dialer := net.Dialer{Timeout: callTimeout, KeepAlive: 15 * time.Second}
			c, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			watched := &watchedConn{Conn: c, ended: make(chan struct{})}
			s.mu.Lock()
			defer s.mu.Unlock()
			s.ended = watched.ended // also of one that the client opens itself
			return watched, nil
		}}
	client, err := rpc.DialOptions(ctx, s.url, rpc.WithWebsocketDialer(dialer),
		rpc.WithWebsocketMessageSizeLimit(maxReplyBytes))
	if err != nil {
		return nil, handshakeError(ctx, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		client.Close()
		return nil, errSocketClosed
	}
	s.client = client
	return client, nil
}

var handshakeStatus = regexp.MustCompile(`\(HTTP status (\d{3}) ?([^)]*)\)`)

// handshakeError is that of opening a connection: with the HTTP status of an answer that is no WebSocket, which is not
// followed when it redirects.
func handshakeError(ctx context.Context, err error) error {
	if found := handshakeStatus.FindStringSubmatch(err.Error()); found != nil {
		code, _ := strconv.Atoi(found[1])
		if code >= 300 && code < 400 {
			return &redirectError{}
		}
		return rpc.HTTPError{StatusCode: code, Status: found[1] + " " + found[2]}
	}
	var network net.Error
	if ctx.Err() != nil || errors.As(err, &network) {
		return err
	}
	return &socketError{"can't be opened", err}
}

func (s *socket) call(ctx context.Context, result any, method string, args ...any) error {
	return s.use(ctx, func(ctx context.Context, c *rpc.Client) error {
		return c.CallContext(ctx, result, method, args...)
	})
}

func (s *socket) batch(ctx context.Context, calls []rpc.BatchElem) error {
	return s.use(ctx, func(ctx context.Context, c *rpc.Client) error { return c.BatchCallContext(ctx, calls) })
}

// use makes a call with the connection. One that has ended is left, so that the next call opens another one; so is
// one on which nothing came during a call that had all its time, since it may be one whose other end is gone. When a
// connection ends during a call that was open before, the call is made once more on a new one: servers end connections
// as they please, and calls only read.
func (s *socket) use(ctx context.Context, call func(context.Context, *rpc.Client) error) error {
	s.mu.Lock()
	before := s.client
	s.mu.Unlock()
	client, err := s.open(ctx)
	if err != nil {
		return err
	}
	err = s.useOnce(ctx, client, call)
	var ended *socketError
	if before == client && errors.As(err, &ended) && !errors.Is(err, websocket.ErrReadLimit) {
		if client, err = s.open(ctx); err == nil {
			err = s.useOnce(ctx, client, call)
		}
	}
	return err
}

// errSocketEnded is about a call whose connection ended.
var errSocketEnded = errors.New("the connection ended without an answer")

// endGrace is how long after the end of its connection a call may still say what happened. go-ethereum's client
// forgets a call, so that it waits for its context, when the connection ends right after the call was sent.
const endGrace = 100 * time.Millisecond

func (s *socket) useOnce(ctx context.Context, client *rpc.Client,
	call func(context.Context, *rpc.Client) error) error {
	begun := time.Now()
	called, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.mu.Lock()
	ended := s.ended
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		select {
		case <-ended:
		case <-done:
			return
		}
		select {
		case <-time.After(endGrace):
			cancel(errSocketEnded)
		case <-done:
		}
	}()
	err := call(called, client)
	close(done)
	if err != nil && ctx.Err() == nil && context.Cause(called) == errSocketEnded { //nolint:errorlint // it is ours
		err = errSocketEnded
	}
	var answer rpc.Error
	switch {
	case err == nil || errors.As(err, &answer):
		s.mu.Lock()
		defer s.mu.Unlock()
		s.answered = time.Now()
		return err
	case ctx.Err() != nil:
		s.mu.Lock()
		silent := errors.Is(ctx.Err(), context.DeadlineExceeded) && s.answered.Before(begun) &&
			time.Since(begun) >= silentAfter
		s.mu.Unlock()
		if silent {
			s.leave(client)
		}
		return ctx.Err()
	}
	text := "the connection ended"
	var closed *websocket.CloseError
	var network net.Error
	var syntax *json.SyntaxError
	switch {
	case errors.Is(err, websocket.ErrReadLimit):
		text = fmt.Sprintf("an answer has more than %d MiB", maxReplyBytes>>20)
	case errors.Is(err, errSocketEnded), errors.As(err, &closed), errors.As(err, &network), errors.Is(err, io.EOF),
		errors.Is(err, net.ErrClosed), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, rpc.ErrClientQuit):
	case errors.As(err, &syntax): // the client has ended the connection
		s.leave(client)
		return err
	default: // what was answered, and not the connection
		return err
	}
	s.leave(client)
	return &socketError{text, err}
}

// leave closes a connection, if it is still the present one.
func (s *socket) leave(client *rpc.Client) {
	s.mu.Lock()
	if s.client == client {
		s.client = nil
	}
	s.mu.Unlock()
	client.Close()
}

func (s *socket) close() {
	s.mu.Lock()
	client := s.client
	s.client, s.closed = nil, true
	s.mu.Unlock()
	if client != nil {
		client.Close()
	}
}
