// Package httpx sets HTTP clients up for a long life.
//
// It promises: a connection that passes nothing any more, as after a firewall has forgotten it or the other side's
// machine is gone, is given up within 15 seconds. Without that a client that speaks HTTP/2 uses it for every request
// until the system gives it up, about a quarter of an hour: requests that time out end their streams only.
//
// Limits: requests of these 15 seconds time out. A connection of HTTP/1.1 needs none of this: the request that timed
// out closes it.
//
// Source: net/http, HTTP2Config; RFC 9113, section 6.7 (PING).
package httpx

import (
	"net/http"
	"time"
)

const (
	// quiet is how long a connection may pass nothing until it is asked whether it is alive, and answerWithin how
	// long the answer may take.
	quiet        = 10 * time.Second
	answerWithin = 5 * time.Second
)

// NoticeLost has t, which was not used yet, give up connections that pass nothing any more, and returns it.
func NoticeLost(t *http.Transport) *http.Transport { return noticeLost(t, quiet, answerWithin) }

func noticeLost(t *http.Transport, quiet, answerWithin time.Duration) *http.Transport {
	t.HTTP2 = &http.HTTP2Config{SendPingTimeout: quiet, PingTimeout: answerWithin}
	return t
}

// Default returns a copy of http.DefaultTransport that gives up such connections. Its connections are its own.
func Default() *http.Transport {
	if t, ok := http.DefaultTransport.(*http.Transport); ok {
		return NoticeLost(t.Clone())
	}
	return NoticeLost(&http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true})
}
