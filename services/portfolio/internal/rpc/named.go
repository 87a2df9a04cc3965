package rpc

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/page"
	"github.com/purserhq/purser/pkg/timerange"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/internal/requests"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
)

// Page sizes of ListPortfolios and ListMemberships, as in the contract. An entry has up to
// 1000 ids, so that a page stays below 2 MiB.
const (
	defaultPortfolioPage = 20
	maxPortfolioPage     = 50
)

func portfolioToProto(m portfolio.Member) *portfoliov1.Portfolio {
	return &portfoliov1.Portfolio{
		Id: m.ID.String(), Name: m.Name, Default: m.Default, CreateTime: timestamppb.New(m.CreatedAt),
		WalletIds: idsToProto(m.Membership.Wallets), UpdateTime: timestamppb.New(m.UpdatedAt), Etag: m.ETag(),
	}
}

func idsToProto(ids []uuid.UUID) (texts []string) {
	for _, id := range ids {
		texts = append(texts, id.String())
	}
	return texts
}

// withWallets returns a portfolio with the wallets that it has now.
func (s *PortfolioServer) withWallets(ctx context.Context, p portfolio.Portfolio) (*portfoliov1.Portfolio, error) {
	m, err := s.named.Now(ctx, p)
	if err != nil {
		return nil, err
	}
	return portfolioToProto(m), nil
}

// CreatePortfolio implements the RPC.
func (s *PortfolioServer) CreatePortfolio(ctx context.Context,
	req *portfoliov1.CreatePortfolioRequest) (*portfoliov1.CreatePortfolioResponse, error) {
	c, err := creationFromProto(req)
	if err != nil {
		return nil, err
	}
	p, err := s.named.Create(ctx, authn.CallerFrom(ctx).UserID, c)
	if err != nil {
		return nil, err
	}
	out, err := s.withWallets(ctx, p)
	return &portfoliov1.CreatePortfolioResponse{Portfolio: out}, err
}

func creationFromProto(req *portfoliov1.CreatePortfolioRequest) (c portfolio.Creation, err error) {
	var idsErr, timeErr, requestErr error
	c.Name = req.GetName()
	c.Wallets, idsErr = idsFromProto("wallet_ids", req.GetWalletIds())
	c.Effective, timeErr = timerange.Time("effective_time", req.GetEffectiveTime())
	c.RequestID, requestErr = requests.ID(req)
	return c, errs.AllInvalid(idsErr, timeErr, requestErr)
}

func idsFromProto(field string, texts []string) ([]uuid.UUID, error) {
	ids := make([]uuid.UUID, len(texts))
	for i, text := range texts {
		id, err := uuid.Parse(text)
		if err != nil {
			return nil, errs.Invalid(field, "must be UUIDs, "+errs.Given(text))
		}
		ids[i] = id
	}
	return ids, nil
}

// ListPortfolios implements the RPC.
func (s *PortfolioServer) ListPortfolios(ctx context.Context,
	req *portfoliov1.ListPortfoliosRequest) (*portfoliov1.ListPortfoliosResponse, error) {
	owner := authn.CallerFrom(ctx).UserID
	query := page.NewQuery("ListPortfolios", owner.String())
	after, _, err := page.Parse[uuid.UUID](query, req.GetPageToken())
	if err != nil {
		return nil, err
	}
	limit := page.Size(req.GetPageSize(), defaultPortfolioPage, maxPortfolioPage)
	list, err := s.named.List(ctx, owner, after, limit+1)
	if err != nil {
		return nil, err
	}
	onPage, next, err := page.Cut(query, list, limit, func(m portfolio.Member) uuid.UUID { return m.ID },
		portfolioToProto)
	return &portfoliov1.ListPortfoliosResponse{Portfolios: onPage, NextPageToken: next}, err
}

// UpdatePortfolio implements the RPC.
func (s *PortfolioServer) UpdatePortfolio(ctx context.Context,
	req *portfoliov1.UpdatePortfolioRequest) (*portfoliov1.UpdatePortfolioResponse, error) {
	request, err := requests.ID(req)
	if err := errs.AllInvalid(checkMask(req.GetUpdateMask()), err); err != nil {
		return nil, err
	}
	p, err := s.callersPortfolio(ctx, req.GetPortfolioId())
	if err != nil {
		return nil, err
	}
	p, err = s.named.Rename(ctx, p.Owner, p.ID, req.GetName(), req.GetEtag(), request)
	if err != nil {
		return nil, err
	}
	out, err := s.withWallets(ctx, p)
	return &portfoliov1.UpdatePortfolioResponse{Portfolio: out}, err
}

func checkMask(mask *fieldmaskpb.FieldMask) error {
	paths := mask.GetPaths()
	if len(paths) == 0 || slices.Equal(paths, []string{"name"}) {
		return nil
	}
	return errs.Invalid("update_mask", `must be empty or name "name", the only field that can be set, `+
		errs.Given(strings.Join(paths, ",")))
}

// DeletePortfolio implements the RPC.
func (s *PortfolioServer) DeletePortfolio(ctx context.Context,
	req *portfoliov1.DeletePortfolioRequest) (*portfoliov1.DeletePortfolioResponse, error) {
	id, request, err := namedFromProto(req)
	if err != nil {
		return nil, err
	}
	n, err := s.named.Delete(ctx, authn.CallerFrom(ctx).UserID, id, req.GetEtag(), request)
	if err != nil {
		return nil, err
	}
	return &portfoliov1.DeletePortfolioResponse{SnapshotCount: n}, nil
}

// namedFromProto returns the ids of a request. It isn't looked up here whose portfolio it is:
// the answer to an earlier call can be repeated after its deletion.
func namedFromProto(req interface {
	GetPortfolioId() string
	GetRequestId() string
}) (id, request uuid.UUID, err error) {
	id, idErr := uuid.Parse(req.GetPortfolioId())
	if idErr != nil {
		idErr = errs.Invalid("portfolio_id", "must be a UUID, "+errs.Given(req.GetPortfolioId()))
	}
	request, requestErr := requests.ID(req)
	return id, request, errs.AllInvalid(idErr, requestErr)
}

// SetPortfolioWallets implements the RPC.
func (s *PortfolioServer) SetPortfolioWallets(ctx context.Context,
	req *portfoliov1.SetPortfolioWalletsRequest) (*portfoliov1.SetPortfolioWalletsResponse, error) {
	id, request, err := namedFromProto(req)
	wallets, idsErr := idsFromProto("wallet_ids", req.GetWalletIds())
	effective, timeErr := timerange.Time("effective_time", req.GetEffectiveTime())
	if err := errs.AllInvalid(err, idsErr, timeErr); err != nil {
		return nil, err
	}
	p, err := s.named.Edit(ctx, authn.CallerFrom(ctx).UserID, id, portfolio.Change{
		Edit: portfolio.Edit{Set: true, Add: wallets}, Effective: effective, ETag: req.GetEtag(), RequestID: request})
	if err != nil {
		return nil, err
	}
	out, err := s.withWallets(ctx, p)
	return &portfoliov1.SetPortfolioWalletsResponse{Portfolio: out}, err
}

// ChangePortfolioWallets implements the RPC.
func (s *PortfolioServer) ChangePortfolioWallets(ctx context.Context,
	req *portfoliov1.ChangePortfolioWalletsRequest) (*portfoliov1.ChangePortfolioWalletsResponse, error) {
	id, request, err := namedFromProto(req)
	add, addErr := idsFromProto("add_wallet_ids", req.GetAddWalletIds())
	remove, removeErr := idsFromProto("remove_wallet_ids", req.GetRemoveWalletIds())
	effective, timeErr := timerange.Time("effective_time", req.GetEffectiveTime())
	if err := errs.AllInvalid(err, addErr, removeErr, timeErr); err != nil {
		return nil, err
	}
	p, err := s.named.Edit(ctx, authn.CallerFrom(ctx).UserID, id, portfolio.Change{
		Edit: portfolio.Edit{Add: add, Remove: remove}, Effective: effective, ETag: req.GetEtag(), RequestID: request})
	if err != nil {
		return nil, err
	}
	out, err := s.withWallets(ctx, p)
	return &portfoliov1.ChangePortfolioWalletsResponse{Portfolio: out}, err
}

// ListMemberships implements the RPC.
func (s *PortfolioServer) ListMemberships(ctx context.Context,
	req *portfoliov1.ListMembershipsRequest) (*portfoliov1.ListMembershipsResponse, error) {
	p, err := s.callersPortfolio(ctx, req.GetPortfolioId())
	if err != nil {
		return nil, err
	}
	query := page.NewQuery("ListMemberships", p.Owner.String(), p.ID.String())
	from, _, err := page.Parse[time.Time](query, req.GetPageToken())
	if err != nil {
		return nil, err
	}
	// A page token is where the next page begins: the end of the last one.
	limit := page.Size(req.GetPageSize(), defaultPortfolioPage, maxPortfolioPage)
	list, err := s.named.ListMemberships(ctx, p, from, limit+2)
	if err != nil {
		return nil, err
	}
	if !from.IsZero() && len(list) > 0 && !list[0].From.After(from) {
		list = list[1:] // it was the last of the page before
	}
	ends := make(map[time.Time]time.Time)
	for i := range len(list) - 1 {
		ends[list[i].From] = list[i+1].From
	}
	onPage, next, err := page.Cut(query, list[:min(len(list), limit+1)], limit,
		func(m portfolio.Membership) time.Time { return m.From },
		func(m portfolio.Membership) *portfoliov1.Membership {
			return &portfoliov1.Membership{StartTime: timestamppb.New(m.From), EndTime: timeToProto(ends[m.From]),
				WalletIds: idsToProto(m.Wallets), AllWallets: !m.Named}
		})
	return &portfoliov1.ListMembershipsResponse{Memberships: onPage, NextPageToken: next}, err
}

// RecomputeSnapshots implements the RPC.
func (s *PortfolioServer) RecomputeSnapshots(ctx context.Context,
	req *portfoliov1.RecomputeSnapshotsRequest) (*portfoliov1.RecomputeSnapshotsResponse, error) {
	r, err := timerange.FromProto(req.GetStartTime(), req.GetEndTime())
	if err != nil {
		return nil, err
	}
	p, err := s.callersPortfolio(ctx, req.GetPortfolioId())
	if err != nil {
		return nil, err
	}
	progress, err := s.snapshots.Recompute(ctx, p, r.Start, r.End, req.GetAll())
	if err != nil {
		return nil, err
	}
	return &portfoliov1.RecomputeSnapshotsResponse{Progress: progressToProto(progress)}, nil
}
