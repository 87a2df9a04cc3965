package rpc

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/timerange"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/internal/requests"
	"github.com/purserhq/purser/services/portfolio/internal/currency"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
)

// Check looks at a message beside the rules of its contract, so that a caller learns
// of all mistakes at once; see grpcserver.Server.CheckMessages. The domain packages
// apply the same rules again.
func (s *PortfolioServer) Check(m proto.Message) error {
	switch r := m.(type) {
	case *portfoliov1.GetValuationRequest:
		asOf, err := timerange.Time("as_of_time", r.GetAsOfTime())
		if err == nil {
			err = s.portfolios.CheckAsOf(asOf)
		}
		return errs.AllInvalid(err, currency.Check("currency", r.GetCurrency()))
	case *portfoliov1.WatchValuationRequest:
		return checkWatch(r)
	case *portfoliov1.CreatePortfolioRequest:
		c, err := creationFromProto(r)
		if c.Wallets == nil { // the rules of the contract name which one is no UUID
			err = nil
		}
		_, nameErr := portfolio.NewName(r.GetName())
		_, timeErr := s.named.Hour(c.Effective)
		return errs.AllInvalid(err, nameErr, timeErr)
	case *portfoliov1.UpdatePortfolioRequest:
		_, err := requests.ID(r)
		_, nameErr := portfolio.NewName(r.GetName())
		return errs.AllInvalid(err, nameErr, checkMask(r.GetUpdateMask()))
	case *portfoliov1.SetPortfolioWalletsRequest:
		return s.checkEdit(r)
	case *portfoliov1.ChangePortfolioWalletsRequest:
		return s.checkEdit(r)
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
	case *portfoliov1.ListSnapshotsRequest, *portfoliov1.GetPositionsRequest, *portfoliov1.GetHealthRequest,
		*portfoliov1.GetProtocolBreakdownRequest:
		return currency.Check("currency", m.(interface{ GetCurrency() string }).GetCurrency())
	case *portfoliov1.GetKpiRequest:
		return s.figures.Check(kpiRequestFromProto(r))
	}
	return nil
}

// checkEdit checks the time and the request_id of a change of wallets.
func (s *PortfolioServer) checkEdit(r interface {
	GetEffectiveTime() *timestamppb.Timestamp
	GetRequestId() string
}) error {
	effective, err := timerange.Time("effective_time", r.GetEffectiveTime())
	if err == nil {
		_, err = s.named.Hour(effective)
	}
	_, requestErr := requests.ID(r)
	return errs.AllInvalid(err, requestErr)
}
