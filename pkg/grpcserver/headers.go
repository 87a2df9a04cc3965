package grpcserver

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
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

// refuseEarly answers a call that has more metadata than MaxHeaders, before anything
// is kept of it: RESOURCE_EXHAUSTED (HEADERS_TOO_LARGE). It also answers a call whose
// deadline has passed and one whose path names no method, which gRPC would refuse next
// and tell nobody.
func refuseEarly(log *slog.Logger, measured *measurements) tap.ServerInHandle {
	return func(ctx context.Context, info *tap.Info) (context.Context, error) {
		s := refusal(ctx, info, measured.methods)
		if s == nil {
			return ctx, nil
		}
		measured.refused(ctx, info.FullMethodName, s.Code())
		log.LogAttrs(ctx, slog.LevelInfo, "call", slog.String("method", info.FullMethodName),
			slog.String("code", s.Code().String()), slog.String("message", s.Message()))
		return ctx, s.Err()
	}
}

func refusal(ctx context.Context, info *tap.Info, m *methods) *status.Status {
	if size := headerSize(info.Header); size > MaxHeaders {
		return grpcerr.ToStatus(errs.Exhausted("HEADERS_TOO_LARGE", fmt.Sprintf("the metadata of the call has %d "+
			"bytes, must have at most %d, counting 32 for each value besides its name and itself", size, MaxHeaders)))
	}
	if path, ok := strings.CutPrefix(info.FullMethodName, "/"); !ok || !strings.Contains(path, "/") {
		return m.unknown(info.FullMethodName)
	}
	if ctx.Err() != nil {
		return grpcerr.ToStatus(errs.Deadline("DEADLINE_TOO_SHORT",
			"the deadline of the call had passed when it arrived"))
	}
	return nil
}
