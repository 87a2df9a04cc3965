package rpc

import (
	"context"
	"time"

	"google.golang.org/grpc"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/internal/streams"
	"github.com/purserhq/purser/services/portfolio/internal/currency"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/watch"
)

// Limits of the streams of WatchValuation, of which the contract states the second and the third.
const (
	maxWatchers, maxWatchersPerCaller = 4000, 16
	watchSendTimeout                  = 30 * time.Second
)

// WatchValuation implements the RPC.
func (s *PortfolioServer) WatchValuation(req *portfoliov1.WatchValuationRequest,
	stream grpc.ServerStreamingServer[portfoliov1.WatchValuationResponse]) (err error) {
	if err := checkWatch(req); err != nil {
		return err
	}
	p, err := s.watchedPortfolio(stream.Context(), req.GetPortfolioId())
	if err != nil {
		return err
	}
	ctx, end, err := s.watchers.Hold(stream.Context(), authn.CallerFrom(stream.Context()).UserID.String(), "streams")
	if err != nil {
		return err
	}
	defer end(&err)
	err = s.watches.Watch(ctx, p, req.GetCurrency(), req.GetCursor(), func(state *watch.State, cursor string) error {
		m := &portfoliov1.WatchValuationResponse{Cursor: cursor}
		if state != nil {
			m.Valuation = valuationToProto(state.Valuation, state.Rate)
		}
		return streams.Deliver(ctx, watchSendTimeout, func() error { return stream.Send(m) })
	})
	return err
}

// watchedPortfolio is callersPortfolio when it is the stream's turn.
func (s *PortfolioServer) watchedPortfolio(ctx context.Context, id string) (portfolio.Portfolio, error) {
	end, err := s.watches.AcquireSlot(ctx)
	if err != nil {
		return portfolio.Portfolio{}, err
	}
	defer end()
	return s.callersPortfolio(ctx, id)
}

// checkWatch returns errs.Invalid with every mistake that the contract can't tell of.
func checkWatch(req *portfoliov1.WatchValuationRequest) error {
	return errs.AllInvalid(currency.Check("currency", req.GetCurrency()), watch.CheckCursor(req.GetCursor()))
}
