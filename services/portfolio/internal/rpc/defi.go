package rpc

import (
	"cmp"
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/purserhq/purser/pkg/page"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/portfolio/internal/defi"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// Page sizes of GetPositions and GetHealth, which the contract states.
const (
	defaultMarketPage = 100
	maxMarketPage     = 500
)

// DefiServer serves purser.portfolio.v1.DefiService.
type DefiServer struct {
	portfoliov1.UnimplementedDefiServiceServer
	portfolios *portfolio.Service
	positions  *defi.Service
}

// NewDefiServer serves what portfolios have in protocols.
func NewDefiServer(p *portfolio.Service, s *defi.Service) *DefiServer {
	return &DefiServer{portfolios: p, positions: s}
}

// read returns what the caller's portfolio has in protocols.
func (s *DefiServer) read(ctx context.Context, req interface {
	GetPortfolioId() string
	GetCurrency() string
}) (portfolio.Portfolio, defi.State, error) {
	p, err := callersPortfolio(ctx, s.portfolios, req.GetPortfolioId())
	if err != nil {
		return p, defi.State{}, err
	}
	state, err := s.positions.Read(ctx, p, req.GetCurrency())
	return p, state, err
}

// pageOf cuts the page of a request out of a list in the order of its keys. A page is of a reading of its own.
func pageOf[T any, M proto.Message](query page.Query, req interface {
	GetPageSize() int32
	GetPageToken() string
}, list []T, key func(*T) defi.Key, convert func(*T) M) ([]M, string, error) {
	after, _, err := page.Parse[defi.Key](query, req.GetPageToken())
	if err != nil {
		return nil, "", err
	}
	limit := page.Size(req.GetPageSize(), defaultMarketPage, maxMarketPage)
	return page.Cut(query, defi.Page(list, key, after, limit+1), limit,
		func(t T) defi.Key { return key(&t) }, func(t T) M { return convert(&t) })
}

// GetPositions implements the RPC.
func (s *DefiServer) GetPositions(ctx context.Context,
	req *portfoliov1.GetPositionsRequest) (*portfoliov1.GetPositionsResponse, error) {
	p, state, err := s.read(ctx, req)
	if err != nil {
		return nil, err
	}
	s.positions.AddPastYields(ctx, p, &state)
	query := page.NewQuery("GetPositions", p.Owner.String(), p.ID.String())
	markets, next, err := pageOf(query, req, state.Markets, (*defi.Market).Key, defiMarketToProto)
	if err != nil {
		return nil, err
	}
	return &portfoliov1.GetPositionsResponse{State: defiStateToProto(&state), Markets: markets, NextPageToken: next,
		Total: defiWorthToProto(state.Total), Apy: defiFigureToProto(state.Earning.APY),
		BorrowApy: defiFigureToProto(state.Borrowing.APY), EarningValue: decimalToProto(state.Earning.Value),
		BorrowingValue: decimalToProto(state.Borrowing.Value), BadRateCount: int32(state.BadRates),
		PastApy: defiFigureToProto(state.PastEarning.APY), PastBorrowApy: defiFigureToProto(state.PastBorrowing.APY),
		PastEarningValue:   decimalToProto(state.PastEarning.Value),
		PastBorrowingValue: decimalToProto(state.PastBorrowing.Value)}, nil
}

// GetHealth implements the RPC.
func (s *DefiServer) GetHealth(ctx context.Context,
	req *portfoliov1.GetHealthRequest) (*portfoliov1.GetHealthResponse, error) {
	p, state, err := s.read(ctx, req)
	if err != nil {
		return nil, err
	}
	accounts := state.Accounts()
	query := page.NewQuery("GetHealth", p.Owner.String(), p.ID.String())
	onPage, next, err := pageOf(query, req, accounts, (*defi.Account).Key, accountHealthToProto)
	if err != nil {
		return nil, err
	}
	all := defi.AggregateOf(accounts)
	return &portfoliov1.GetHealthResponse{State: defiStateToProto(&state), Accounts: onPage, NextPageToken: next,
		Lowest: lowestHealthToProto(defi.LowestOf(accounts)),
		Aggregate: &portfoliov1.AggregateHealth{HealthFactor: defiFigureToProto(all.Health),
			SecuredValue: decimalToProto(all.Secured), DebtValue: decimalToProto(all.Debt),
			AccountCount: int32(all.Accounts), LeftOutCount: int32(all.LeftOut)}}, nil
}

// GetProtocolBreakdown implements the RPC.
func (s *DefiServer) GetProtocolBreakdown(ctx context.Context,
	req *portfoliov1.GetProtocolBreakdownRequest) (*portfoliov1.GetProtocolBreakdownResponse, error) {
	_, state, err := s.read(ctx, req)
	if err != nil {
		return nil, err
	}
	resp := &portfoliov1.GetProtocolBreakdownResponse{State: defiStateToProto(&state),
		Total: defiWorthToProto(state.Total)}
	for _, p := range state.Breakdown() {
		out := &portfoliov1.ProtocolWorth{Protocol: p.Protocol, Worth: defiWorthToProto(p.Worth),
			Share: decimalToProto(p.Share), LowestHealth: lowestHealthToProto(p.Lowest)}
		for _, m := range p.Markets {
			out.Markets = append(out.Markets, &portfoliov1.MarketWorth{Market: m.Market,
				Worth: defiWorthToProto(m.Worth), Share: decimalToProto(m.Share),
				LowestHealth: lowestHealthToProto(m.Lowest), WalletCount: int32(m.Wallets),
				IncompleteCount: int32(m.Incomplete)})
		}
		resp.Protocols = append(resp.Protocols, out)
	}
	return resp, nil
}

func defiStateToProto(s *defi.State) *portfoliov1.DefiState {
	return &portfoliov1.DefiState{Currency: cmp.Or(s.Rate.Currency, valuation.Currency), Rate: rateToProto(s.Rate),
		ValuationTime: timeToProto(s.At), Complete: s.Complete(), IncompleteReasons: s.Incomplete}
}

func defiFigureToProto(f defi.Figure) *portfoliov1.DefiFigure {
	return &portfoliov1.DefiFigure{Value: decimalToProto(f.Value), UnavailableReason: f.Unavailable,
		AtLeast: f.AtLeast}
}

func defiWorthToProto(w defi.Worth) *portfoliov1.DefiWorth {
	return &portfoliov1.DefiWorth{Assets: decimalToProto(w.Assets), Liabilities: decimalToProto(w.Liabilities),
		Net: decimalToProto(w.Net), Claimable: decimalToProto(w.Claimable), Locked: decimalToProto(w.Locked),
		PositionCount: int32(w.Positions), UnpricedCount: int32(w.Unpriced), UnverifiedCount: int32(w.Unverified)}
}

func defiMarketToProto(m *defi.Market) *portfoliov1.DefiMarket {
	out := &portfoliov1.DefiMarket{WalletId: m.WalletID, Account: m.Account, Protocol: m.Protocol, Market: m.ID,
		Complete: m.Complete, Missing: m.Missing, Worth: defiWorthToProto(m.Worth)}
	for i := range m.Positions {
		p := &m.Positions[i]
		out.Positions = append(out.Positions, &portfoliov1.DefiPosition{
			Kind:     portfoliov1.PositionKind(portfoliov1.PositionKind_value["POSITION_KIND_"+string(p.Kind)]),
			RateMode: portfoliov1.RateMode(portfoliov1.RateMode_value["RATE_MODE_"+p.RateMode]),
			TokenId:  p.TokenID, Symbol: p.Symbol, Decimals: uint32(p.Decimals), Amount: p.Amount.String(),
			TokenAmount: p.TokenAmount(), Price: p.UnitPrice, PriceSource: p.Price.Source,
			PriceTime: timeToProto(p.Price.Time), PriceStale: p.Price.Stale, Value: decimalToProto(p.Value),
			UnpricedReason: p.Unpriced, Verified: p.Verified, ReceiptTokenId: p.Receipt, Collateral: p.Collateral,
			YearlyRate: decimalToProto(p.Rate), Apy: defiFigureToProto(p.APY), PastApy: defiFigureToProto(p.PastAPY),
			BlockNumber: p.Block,
			BlockTime:   timeToProto(p.BlockTime)})
	}
	return out
}

func accountHealthToProto(a *defi.Account) *portfoliov1.AccountHealth {
	all, each := a.Distances()
	out := &portfoliov1.AccountHealth{WalletId: a.WalletID, Account: a.Account, Protocol: a.Protocol,
		Market: a.ID, Complete: a.Complete, Missing: a.Missing, HealthFactor: defiFigureToProto(a.Health),
		Liquidatable: a.Liquidatable, Collateral: decimalToProto(a.Collateral), Debt: decimalToProto(a.Debt),
		LiquidationThreshold: decimalToProto(a.Threshold), DebtValue: decimalToProto(a.DebtValue),
		LeftOutReason: a.LeftOut, AllCollateralFall: defiFigureToProto(all)}
	if l := a.Lending; l != nil {
		out.Unit, out.EMode, out.BlockNumber, out.BlockTime = l.Unit.String(), l.EMode, l.Block,
			timeToProto(l.BlockTime)
	}
	for _, d := range each {
		out.Distances = append(out.Distances, &portfoliov1.LiquidationDistance{TokenId: d.TokenID, Symbol: d.Symbol,
			Collateral: d.Collateral, Debt: d.Debt, Fall: defiFigureToProto(d.Fall), Rise: defiFigureToProto(d.Rise)})
	}
	return out
}

func lowestHealthToProto(l defi.Lowest) *portfoliov1.LowestHealth {
	out := &portfoliov1.LowestHealth{HealthFactor: defiFigureToProto(l.Health),
		LiquidatableCount: int32(l.Liquidatable), UnknownCount: int32(l.Unknown)}
	if a := l.Of; a != nil {
		out.WalletId, out.Account, out.Protocol, out.Market = a.WalletID, a.Account, a.Protocol, a.ID
	}
	return out
}
