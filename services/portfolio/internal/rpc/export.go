package rpc

import (
	"time"

	"google.golang.org/grpc"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/timerange"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/portfolio/internal/export"
)

// Limits of exports, of which the contract states the second and the third.
const (
	maxExports, maxExportsPerCaller = 32, 4
	exportSendTimeout               = 30 * time.Second
)

// ExportSnapshots implements the RPC.
func (s *PortfolioServer) ExportSnapshots(req *portfoliov1.ExportSnapshotsRequest,
	stream grpc.ServerStreamingServer[portfoliov1.ExportSnapshotsResponse]) (err error) {
	r, err := exportRequestFromProto(req)
	if err != nil {
		return err
	}
	p, err := s.callersPortfolio(stream.Context(), req.GetPortfolioId())
	if err != nil {
		return err
	}
	ctx, end, err := s.exports.Hold(stream.Context(), authn.CallerFrom(stream.Context()).UserID.String(), "exports")
	if err != nil {
		return err
	}
	defer end(&err)
	return sendFile(ctx, stream, func(data []byte, rows *int64) *portfoliov1.ExportSnapshotsResponse {
		return &portfoliov1.ExportSnapshotsResponse{Data: data, RowCount: rows}
	}, func(parts *export.Parts) (int, error) { return s.exporter.Write(ctx, p, r, parts) })
}

func exportRequestFromProto(req *portfoliov1.ExportSnapshotsRequest) (export.Request, error) {
	r, err := timerange.FromProto(req.GetStartTime(), req.GetEndTime())
	positions := req.GetContent() == portfoliov1.ExportContent_EXPORT_CONTENT_POSITIONS
	return export.Request{Format: export.Format(req.GetFormat()), Positions: positions, Start: r.Start, End: r.End,
		Currency: req.GetCurrency()}, err
}
