package grpcserver

import (
	"log/slog"
	"sync/atomic"
)

// inFlight counts the calls and streams that a server answers at this moment, without
// those of gRPC's own services.
type inFlight struct{ calls, streams atomic.Int64 }

// add counts a call: by 1 when it begins, by -1 when it has ended.
func (f *inFlight) add(n int64, method string, streaming bool) {
	switch {
	case isInfrastructure(method):
	case streaming:
		f.streams.Add(n)
	default:
		f.calls.Add(n)
	}
}

// attrs are the attributes of a line of the log.
func (f *inFlight) attrs() slog.Attr {
	return slog.Group("", "calls", f.calls.Load(), "streams", f.streams.Load())
}
