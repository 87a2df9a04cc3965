// Package httponly keeps HTTP clients from answers that end HTTP.
//
// It promises: an answer with status 101 is an error, and its connection is closed. Go's client takes such an answer
// also where none was asked for. Its body is then the bare connection, a read of which neither the end of the
// request's context nor the client's Timeout ends: a server that sends nothing more holds whoever reads it for ever.
//
// Limits: an answer without `Connection: Upgrade` has no body then, and is an error all the same.
package httponly

import (
	"errors"
	"net/http"
)

// errSwitched is not told of the protocol, whose name is the server's.
var errSwitched = errors.New("status 101: the server wants another protocol than HTTP")

type transport struct{ next http.RoundTripper }

// Transport returns next without answers that end HTTP. It is safe for concurrent use if next is.
func Transport(next http.RoundTripper) http.RoundTripper { return transport{next} }

// RoundTrip implements http.RoundTripper.
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		_ = resp.Body.Close()
		return nil, errSwitched
	}
	return resp, nil
}

// CloseIdleConnections is called by http.Client's method of this name.
func (t transport) CloseIdleConnections() {
	if c, ok := t.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}
