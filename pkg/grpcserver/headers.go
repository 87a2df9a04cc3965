package grpcserver

import (
	"context"
	"fmt"
	"log/slog"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/tap"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/errs/grpcerr"
)

const (
	// MaxHeaders is the largest size of a call's metadata, in bytes, with 32 added
	// for each value, as HTTP/2 counts (RFC 9113, section 10.5.1). A token has at most
	// 8 KiB.
	MaxHeaders = 64 << 10
	// transportHeaders is the limit of the connection. What is larger gets no status:
	// gRPC resets the stream, or closes the connection with all its calls. It is far
	// above MaxHeaders, so that a mistake is told and hurts no other call.
	transportHeaders = 16 * MaxHeaders
)

// headerSize is the size of metadata as MaxHeaders counts it.
func headerSize(md metadata.MD) int {
	size := 0
	for name, values := range md {
		for _, v := range values {
			size += len(name) + len(v) + 32
		}
	}
	return size
}

// refuseLargeHeaders answers a call whose metadata is above MaxHeaders before
// anything is kept of it: RESOURCE_EXHAUSTED (HEADERS_TOO_LARGE).
func refuseLargeHeaders(log *slog.Logger) tap.ServerInHandle {
	return func(ctx context.Context, info *tap.Info) (context.Context, error) {
		size := headerSize(info.Header)
		if size <= MaxHeaders {
			return ctx, nil
		}
		s := grpcerr.ToStatus(errs.Exhausted("HEADERS_TOO_LARGE", fmt.Sprintf("the metadata of the call has %d "+
			"bytes, must have at most %d, counting 32 for each value besides its name and itself", size, MaxHeaders)))
		log.LogAttrs(ctx, slog.LevelInfo, "call", slog.String("method", info.FullMethodName),
			slog.String("code", codes.ResourceExhausted.String()), slog.String("message", s.Message()))
		return ctx, s.Err()
	}
}
