package grpcserver

import (
	"log/slog"
	"sync/atomic"
)

// inFlight counts the calls and streams that a server answers at this moment, without
// those of gRPC's own services.
type inFlight struct{ calls, streams atomic.Int64 }

// begin counts a call until the function that it returns is called.
func (f *inFlight) begin(method string, streaming bool) (end func()) {
	if isInfrastructure(method) {
		return func() {}
	}
	n := &f.calls
	if streaming {
		n = &f.streams
	}
	n.Add(1)
	return func() { n.Add(-1) }
}

// attrs are the attributes of a line of the log.
func (f *inFlight) attrs() slog.Attr {
	return slog.Group("", "calls", f.calls.Load(), "streams", f.streams.Load())
}
