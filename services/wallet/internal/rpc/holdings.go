package rpc

import (
	"context"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/page"
	"github.com/purserhq/purser/pkg/timerange"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/feed"
	"github.com/purserhq/purser/services/internal/streams"
	"github.com/purserhq/purser/services/wallet/internal/history"
	"github.com/purserhq/purser/services/wallet/internal/holding"
)

// Page sizes of GetHoldings and ListHistoricalHoldings, as in the contract.
const (
	defaultHoldingsPerPage = 1000
	maxHoldingsPerPage     = 10_000
)

// anyOwner is the permission to read the wallets of all owners.
const anyOwner = "wallet:any"

// HoldingsServer serves purser.wallet.v1.HoldingsService.
type HoldingsServer struct {
	walletv1.UnimplementedHoldingsServiceServer
	holdings *holding.Service
	history  *history.Service
	changes  *feed.Feed
	watchers *streams.Pool // by caller, as shards
	shards   *streams.Pool
	// readerTimeout is how long a message of WatchChanges may wait for its reader.
	readerTimeout time.Duration
}

// NewHoldingsServer serves current and past holdings, and the changes of a feed, to whose streams p applies.
func NewHoldingsServer(now *holding.Service, past *history.Service, changes *feed.Feed,
	p feed.Policy) *HoldingsServer {
	return &HoldingsServer{holdings: now, history: past, changes: changes, readerTimeout: p.ReaderTimeout,
		watchers: streams.NewPool(maxWatchers, maxWatchersPerCaller),
		shards:   streams.NewPool(maxShardStreams, maxShardStreamsPerCaller)}
}

// GetHoldings implements the RPC.
func (s *HoldingsServer) GetHoldings(ctx context.Context,
	req *walletv1.GetHoldingsRequest) (*walletv1.GetHoldingsResponse, error) {
	caller := authn.CallerFrom(ctx)
	owner, err := ownerOf(caller, req.GetOwnerId())
	if err != nil {
		return nil, err
	}
	query := page.NewQuery("GetHoldings", caller.UserID.String(), owner.String())
	after, _, err := page.Parse[holding.Cursor](query, req.GetPageToken())
	if err != nil {
		return nil, err
	}
	if err := checkCursor(after.Token); err != nil {
		return nil, err
	}
	rows, next, err := s.holdings.List(ctx, owner, after,
		page.Size(req.GetPageSize(), defaultHoldingsPerPage, maxHoldingsPerPage))
	if err != nil {
		return nil, err
	}
	held := newHoldingsPage()
	if n := held.fill(rows); n < len(rows) {
		next = holding.CursorOf(rows[n-1])
	}
	resp := &walletv1.GetHoldingsResponse{Wallets: held.wallets(), OwnerId: owner.String(), Tokens: byID(held.tokens),
		Prices: byID(held.prices)}
	if next != nil {
		if resp.NextPageToken, err = page.Token(query, *next); err != nil {
			return nil, err
		}
	}
	return resp, nil
}

// ListHistoricalHoldings implements the RPC.
func (s *HoldingsServer) ListHistoricalHoldings(ctx context.Context,
	req *walletv1.ListHistoricalHoldingsRequest) (*walletv1.ListHistoricalHoldingsResponse, error) {
	caller := authn.CallerFrom(ctx)
	owner, err := ownerOf(caller, req.GetOwnerId())
	if err != nil {
		return nil, err
	}
	from, until, err := historyHours(req.GetStartTime(), req.GetEndTime(), time.Now())
	if err != nil {
		return nil, err
	}
	query := page.NewQuery("ListHistoricalHoldings", caller.UserID.String(), owner.String(), from.String(),
		until.String())
	after, continued, err := page.Parse[history.Cursor](query, req.GetPageToken())
	if err != nil {
		return nil, err
	}
	if continued && !after.Within(from, until) {
		return nil, errs.Invalid("page_token", page.Rule)
	}
	if err := checkCursor(after.Token); err != nil {
		return nil, err
	}
	past, next, err := s.history.List(ctx, owner, from, until, after,
		page.Size(req.GetPageSize(), defaultHoldingsPerPage, maxHoldingsPerPage))
	if err != nil {
		return nil, err
	}
	held := newHistoryPage()
	if cut := held.fill(past.Hours); cut != nil {
		next = cut
	}
	resp := &walletv1.ListHistoricalHoldingsResponse{Hours: held.hours, OwnerId: owner.String(),
		Tokens: byID(held.tokens)}
	if next != nil {
		if resp.NextPageToken, err = page.Token(query, *next); err != nil {
			return nil, err
		}
	}
	return resp, nil
}

// maxHistoryYears is how long the range of one request may be.
const maxHistoryYears = 5

// historyHours returns the first hour that begins in the range of a request and
// the hour after the last one. The error is errs.Invalid.
func historyHours(start, end *timestamppb.Timestamp, now time.Time) (from, until time.Time, err error) {
	r, err := timerange.FromProto(start, end)
	if err != nil {
		return from, until, err
	}
	err = r.Check(timerange.Rules{
		Required: true, Now: now, MaxYears: maxHistoryYears,
		Earliest: time.Date(2015, 1, 1, 0, 0, 0, 0, time.UTC), // no EVM chain is older
	})
	if err != nil {
		return from, until, err
	}
	from, until = r.Hours()
	return from, until, nil
}

// ownerOf returns the owner that a request names, the caller for "". The error is
// errs.Invalid, or errs.PermissionDenied for another owner without anyOwner.
func ownerOf(caller authn.Caller, text string) (uuid.UUID, error) {
	if text == "" {
		return caller.UserID, nil
	}
	owner, err := uuid.Parse(text)
	if err != nil {
		return owner, errs.Invalid("owner_id", "must be a UUID")
	}
	if owner != caller.UserID && !caller.May(anyOwner) {
		return owner, errs.PermissionDenied("PERMISSION_MISSING", "owner_id of another user needs the "+
			"permission "+anyOwner+"; leave it empty for your own wallets").
			With("permission", anyOwner)
	}
	return owner, nil
}
