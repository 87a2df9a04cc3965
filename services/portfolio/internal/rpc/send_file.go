package rpc

import (
	"context"

	"google.golang.org/grpc"

	"github.com/purserhq/purser/services/internal/streams"
	"github.com/purserhq/purser/services/portfolio/internal/export"
)

// sendFile sends what write writes, and then what is left with the number of rows that write returns. message makes a
// message of the stream; rows is nil but for the last one. The errors are those of write, and of streams.Deliver.
func sendFile[M any](ctx context.Context, stream grpc.ServerStreamingServer[M],
	message func(data []byte, rows *int64) *M, write func(*export.Parts) (rows int, err error)) error {
	send := func(data []byte, rows *int64) error {
		return streams.Deliver(ctx, exportSendTimeout, func() error { return stream.Send(message(data, rows)) })
	}
	parts := &export.Parts{Send: func(part []byte) error { return send(part, nil) }}
	rows, err := write(parts)
	if err != nil {
		return err
	}
	n := int64(rows)
	return send(parts.Rest(), &n)
}
