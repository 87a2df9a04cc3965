package rpc

import (
	"context"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/page"
	"github.com/purserhq/purser/pkg/timerange"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/internal/requests"
	"github.com/purserhq/purser/services/internal/streams"
	"github.com/purserhq/purser/services/portfolio/internal/currency"
	"github.com/purserhq/purser/services/portfolio/internal/export"
	"github.com/purserhq/purser/services/portfolio/internal/gains"
	"github.com/purserhq/purser/services/portfolio/internal/lots"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
)

// Page sizes of ListLots and ListDisposals, which the contract states.
const (
	defaultLotPage = 200
	maxLotPage     = 1000
)

// LotServer serves purser.portfolio.v1.LotService.
type LotServer struct {
	portfoliov1.UnimplementedLotServiceServer
	portfolios *portfolio.Service
	gains      *gains.Service
	exports    *streams.Pool
}

// NewLotServer serves the lots of portfolios.
func NewLotServer(p *portfolio.Service, g *gains.Service) *LotServer {
	return &LotServer{portfolios: p, gains: g, exports: streams.NewPool(maxExports, maxExportsPerCaller)}
}

// CheckLots looks at a message beside the rules of its contract, as PortfolioServer.Check does.
func CheckLots(m proto.Message) error {
	r, ok := m.(interface {
		GetOptions() *portfoliov1.LotOptions
	})
	if !ok {
		return nil
	}
	err := lotOptions(r.GetOptions()).Check()
	if t, ok := m.(interface{ GetTokenId() string }); ok {
		if id := t.GetTokenId(); id != "" && !currency.IsTokenID(id) {
			err = errs.AllInvalid(err, errs.Invalid("token_id", "must be a CAIP-19 id, "+errs.Given(id)))
		}
	}
	if t, ok := m.(ranged); ok {
		_, rangeErr := lotScope("", t)
		err = errs.AllInvalid(err, rangeErr)
	}
	switch r := m.(type) {
	case *portfoliov1.IdentifyLotsRequest:
		_, identifyErr := identificationFromProto(r)
		_, requestErr := requests.ID(r)
		err = errs.AllInvalid(err, identifyErr, requestErr)
	case *portfoliov1.GetPnlRequest:
		if r.GetOptions().GetView() == portfoliov1.LotView_LOT_VIEW_UK &&
			slices.Contains(r.GetGroupBy(), portfoliov1.PnlGroup_PNL_GROUP_WALLET) {
			err = errs.AllInvalid(err, errs.Invalid("group_by", "must be without PNL_GROUP_WALLET in the view of the "+
				"United Kingdom, whose disposals are of all wallets"))
		}
	}
	return err
}

func lotOptions(o *portfoliov1.LotOptions) gains.Options {
	out := gains.Options{ZoneName: o.GetTimeZone(), Currency: o.GetCurrency(),
		Rules: gains.Rules{Method: lots.Method(o.GetMethod()), View: gains.View(o.GetView()),
			PerWallet: o.GetPerWallet(), WashSales: o.GetWashSales()}}
	for _, s := range o.GetSameAssets() {
		out.Same = append(out.Same, s.GetTokenIds())
	}
	for _, t := range o.GetSecurityTokenIds() {
		if out.Securities == nil {
			out.Securities = map[string]bool{}
		}
		out.Securities[t] = true
	}
	return out
}

// ranged is a request with a range of times.
type ranged interface {
	GetStartTime() *timestamppb.Timestamp
	GetEndTime() *timestamppb.Timestamp
}

func lotScope(token string, r ranged) (s gains.Scope, err error) {
	s.Asset = token
	if r == nil {
		return s, nil
	}
	times, err := timerange.FromProto(r.GetStartTime(), r.GetEndTime())
	if err != nil {
		return s, err
	}
	s.Start, s.End = times.Start, times.End
	return s, times.Check(timerange.Rules{})
}

// read computes the lots of a portfolio of the caller.
func (s *LotServer) read(ctx context.Context, id string, o *portfoliov1.LotOptions) (*gains.Result, error) {
	p, err := callersPortfolio(ctx, s.portfolios, id)
	if err != nil {
		return nil, err
	}
	return s.gains.Read(ctx, p, lotOptions(o))
}

func lotQuery(method string, p portfolio.Portfolio, o *portfoliov1.LotOptions, s gains.Scope) page.Query {
	return page.NewQuery(method, p.Owner.String(), p.ID.String(), lotOptions(o).Key(), s.Asset, s.Start.String(),
		s.End.String())
}

// ListLots implements the RPC.
func (s *LotServer) ListLots(ctx context.Context,
	req *portfoliov1.ListLotsRequest) (*portfoliov1.ListLotsResponse, error) {
	scope := gains.Scope{Asset: req.GetTokenId()}
	p, err := callersPortfolio(ctx, s.portfolios, req.GetPortfolioId())
	if err != nil {
		return nil, err
	}
	query := lotQuery("ListLots", p, req.GetOptions(), scope)
	cursor, more, err := page.Parse[gains.LotCursor](query, req.GetPageToken())
	if err != nil {
		return nil, err
	}
	r, err := s.gains.Read(ctx, p, lotOptions(req.GetOptions()))
	if err != nil {
		return nil, err
	}
	limit := page.Size(req.GetPageSize(), defaultLotPage, maxLotPage)
	found := r.Open(scope, ifMore(cursor, more), limit+1)
	if err := s.gains.AddValues(ctx, r, found); err != nil {
		return nil, err
	}
	onPage, next, err := page.Cut(query, found, limit, func(l gains.Priced) gains.LotCursor { return l.Cursor() },
		func(l gains.Priced) *portfoliov1.Lot { return lotToProto(r, &l) })
	return &portfoliov1.ListLotsResponse{State: lotStateToProto(r), Lots: onPage, NextPageToken: next}, err
}

func ifMore[C any](cursor C, more bool) *C {
	if !more {
		return nil
	}
	return &cursor
}

// ListDisposals implements the RPC.
func (s *LotServer) ListDisposals(ctx context.Context,
	req *portfoliov1.ListDisposalsRequest) (*portfoliov1.ListDisposalsResponse, error) {
	scope, err := lotScope(req.GetTokenId(), req)
	if err != nil {
		return nil, err
	}
	p, err := callersPortfolio(ctx, s.portfolios, req.GetPortfolioId())
	if err != nil {
		return nil, err
	}
	query := lotQuery("ListDisposals", p, req.GetOptions(), scope)
	cursor, more, err := page.Parse[gains.PartCursor](query, req.GetPageToken())
	if err != nil {
		return nil, err
	}
	r, err := s.gains.Read(ctx, p, lotOptions(req.GetOptions()))
	if err != nil {
		return nil, err
	}
	limit := page.Size(req.GetPageSize(), defaultLotPage, maxLotPage)
	onPage, next, err := page.Cut(query, r.Parts(scope, ifMore(cursor, more), limit+1), limit,
		func(p gains.Part) gains.PartCursor { return p.Cursor() },
		func(p gains.Part) *portfoliov1.DisposalPart { return partToProto(r, &p) })
	return &portfoliov1.ListDisposalsResponse{State: lotStateToProto(r), Parts: onPage, NextPageToken: next}, err
}

// GetPnl implements the RPC.
func (s *LotServer) GetPnl(ctx context.Context, req *portfoliov1.GetPnlRequest) (*portfoliov1.GetPnlResponse, error) {
	scope, err := lotScope(req.GetTokenId(), req)
	if err != nil {
		return nil, err
	}
	r, err := s.read(ctx, req.GetPortfolioId(), req.GetOptions())
	if err != nil {
		return nil, err
	}
	var g gains.Group
	for _, by := range req.GetGroupBy() {
		switch by {
		case portfoliov1.PnlGroup_PNL_GROUP_TOKEN:
			g.ByToken = true
		case portfoliov1.PnlGroup_PNL_GROUP_WALLET:
			g.ByWallet = true
		case portfoliov1.PnlGroup_PNL_GROUP_PERIOD:
			g.By = gains.Period(max(1, req.GetPeriod()))
		case portfoliov1.PnlGroup_PNL_GROUP_UNSPECIFIED:
		}
	}
	realized, err := r.Realized(scope, g)
	if err != nil {
		return nil, err
	}
	open := r.Open(gains.Scope{Asset: scope.Asset}, nil, gains.MaxMovements)
	if err := s.gains.AddValues(ctx, r, open); err != nil {
		return nil, err
	}
	unrealized, err := r.Unrealized(open, g)
	if err != nil {
		return nil, err
	}
	resp := &portfoliov1.GetPnlResponse{State: lotStateToProto(r)}
	for _, row := range realized {
		resp.Realized = append(resp.Realized, realizedToProto(row))
	}
	for _, row := range unrealized {
		resp.Unrealized = append(resp.Unrealized, unrealizedToProto(row))
	}
	return resp, nil
}

// ExportLots implements the RPC.
func (s *LotServer) ExportLots(req *portfoliov1.ExportLotsRequest,
	stream grpc.ServerStreamingServer[portfoliov1.ExportLotsResponse]) (err error) {
	scope, err := lotScope("", req)
	if err != nil {
		return err
	}
	ctx, end, err := s.exports.Hold(stream.Context(), authn.CallerFrom(stream.Context()).UserID.String(), "exports")
	if err != nil {
		return err
	}
	defer end(&err)
	r, err := s.read(ctx, req.GetPortfolioId(), req.GetOptions())
	if err != nil {
		return err
	}
	file := gains.FileRequest{Scope: scope, Format: export.Format(req.GetFormat()),
		Open: req.GetContent() == portfoliov1.LotContent_LOT_CONTENT_OPEN_LOTS}
	return sendFile(ctx, stream, func(data []byte, rows *int64) *portfoliov1.ExportLotsResponse {
		return &portfoliov1.ExportLotsResponse{Data: data, RowCount: rows}
	}, func(parts *export.Parts) (int, error) { return s.gains.WriteFile(ctx, r, file, parts) })
}

// IdentifyLots implements the RPC.
func (s *LotServer) IdentifyLots(ctx context.Context,
	req *portfoliov1.IdentifyLotsRequest) (*portfoliov1.IdentifyLotsResponse, error) {
	i, err := identificationFromProto(req)
	request, requestErr := requests.ID(req)
	if err := errs.AllInvalid(err, requestErr); err != nil {
		return nil, err
	}
	p, err := callersPortfolio(ctx, s.portfolios, req.GetPortfolioId())
	if err != nil {
		return nil, err
	}
	i, err = s.gains.Record(ctx, p, i, lotOptions(req.GetOptions()), request)
	if err != nil {
		return nil, err
	}
	out := &portfoliov1.LotIdentification{Id: i.ID.String(), WalletId: i.Wallet, TokenId: i.Token,
		TransactionHash: i.Hash, RecordTime: timestamppb.New(i.Recorded)}
	for _, pick := range i.Picks {
		out.Picks = append(out.Picks, &portfoliov1.LotPick{LotId: pick.Lot, Quantity: pick.Quantity.String()})
	}
	return &portfoliov1.IdentifyLotsResponse{Identification: out}, nil
}

var (
	hashPattern     = regexp.MustCompile(`^0x[0-9a-f]{64}$`)
	lotPattern      = regexp.MustCompile(`^lot:[0-9a-f]{24}$`)
	quantityPattern = regexp.MustCompile(`^[1-9][0-9]{0,99}$`)
)

func identificationFromProto(req *portfoliov1.IdentifyLotsRequest) (i gains.Identification, err error) {
	i = gains.Identification{Wallet: strings.ToLower(req.GetWalletId()), Token: req.GetTokenId(),
		Hash: strings.ToLower(req.GetTransactionHash())}
	var all []error
	if i.Hash != "" && !hashPattern.MatchString(i.Hash) {
		all = append(all, errs.Invalid("transaction_hash", "must be 0x and 64 hexadecimal digits, or empty, "+
			errs.Given(req.GetTransactionHash())))
	}
	seen := map[string]bool{}
	for n, p := range req.GetPicks() {
		q, ok := new(big.Int).SetString(p.GetQuantity(), 10)
		switch {
		case !lotPattern.MatchString(p.GetLotId()):
			all = append(all, errs.Invalid(fmt.Sprintf("picks[%d].lot_id", n), "must be a lot_id of ListLots, "+
				errs.Given(p.GetLotId())))
		case seen[p.GetLotId()]:
			all = append(all, errs.Invalid(fmt.Sprintf("picks[%d].lot_id", n), "must be each lot once, "+
				errs.Given(p.GetLotId())+" again"))
		case !ok || !quantityPattern.MatchString(p.GetQuantity()):
			all = append(all, errs.Invalid(fmt.Sprintf("picks[%d].quantity", n), "must be a decimal integer above 0 "+
				"without leading zeros, "+errs.Given(p.GetQuantity())))
		}
		seen[p.GetLotId()] = true
		i.Picks = append(i.Picks, lots.Pick{Lot: p.GetLotId(), Quantity: q})
	}
	return i, errs.AllInvalid(all...)
}
