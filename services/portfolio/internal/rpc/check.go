package rpc

import (
	"google.golang.org/protobuf/proto"

	"github.com/purserhq/purser/pkg/timerange"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
)

// Check looks at a message beside the rules of its contract, so that a caller learns
// of all mistakes at once; see grpcserver.Server.CheckMessages. The domain packages
// apply the same rules again.
func (s *PortfolioServer) Check(m proto.Message) error {
	switch r := m.(type) {
	case *portfoliov1.GetValuationRequest:
		asOf, err := timerange.Time("as_of_time", r.GetAsOfTime())
		if err != nil {
			return err
		}
		return s.portfolios.CheckAsOf(asOf)
	case *portfoliov1.GetTimelineRequest:
		request, err := timelineRequestFromProto(r)
		if err != nil {
			return err
		}
		return s.timelines.Check(request)
	case *portfoliov1.GetPerformanceRequest:
		request, err := performanceRequestFromProto(r)
		if err != nil {
			return err
		}
		return s.performances.Check(request)
	case *portfoliov1.GetAllocationRequest:
		request, err := allocationRequestFromProto(r)
		if err != nil {
			return err
		}
		return s.allocations.Check(request)
	case *portfoliov1.GetAllocationHistoryRequest:
		request, err := allocationHistoryRequestFromProto(r)
		if err != nil {
			return err
		}
		return s.allocations.CheckHistory(request)
	case *portfoliov1.ExportSnapshotsRequest:
		request, err := exportRequestFromProto(r)
		if err != nil {
			return err
		}
		return s.exporter.Check(request)
	case *portfoliov1.GetKpiRequest:
		return s.figures.Check(r.GetTimeZone())
	}
	return nil
}
