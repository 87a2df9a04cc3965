package rpc

import (
	"context"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
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
	maxHoldingsPerPage     = 2000
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
	if n := fitting(rows, func(r *holding.Row) *holding.Row { return r }); n < len(rows) {
		rows, next = rows[:n], holding.CursorOf(rows[n-1])
	}
	resp := &walletv1.GetHoldingsResponse{Wallets: groupWallets(rows), OwnerId: owner.String()}
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
	rows, next, err := s.history.List(ctx, owner, from, until, after,
		page.Size(req.GetPageSize(), defaultHoldingsPerPage, maxHoldingsPerPage))
	if err != nil {
		return nil, err
	}
	if n := fitting(rows, func(r *history.Row) *holding.Row { return &r.Row }); n < len(rows) {
		rows, next = rows[:n], history.CursorAt(rows[n-1])
	}
	resp := &walletv1.ListHistoricalHoldingsResponse{Hours: groupHours(rows), OwnerId: owner.String()}
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

// groupHours groups rows, which are in order, by hour.
func groupHours(rows []history.Row) []*walletv1.HistoricalHoldings {
	var out []*walletv1.HistoricalHoldings
	for len(rows) > 0 {
		hour := rows[0].Hour
		var inHour []holding.Row
		for len(rows) > 0 && rows[0].Hour.Equal(hour) {
			inHour, rows = append(inHour, rows[0].Row), rows[1:]
		}
		out = append(out, &walletv1.HistoricalHoldings{HourTime: timestamppb.New(hour), Wallets: groupWallets(inHour)})
	}
	return out
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

const (
	// maxHoldingsBytes is how large the holdings of a page or message are at most: page.MaxBytes without the token or
	// cursor of the next one.
	maxHoldingsBytes = page.MaxBytes - 4<<10
	// holdingOverhead is what the messages around a row take beside the row's own: an owner's or an hour's.
	holdingOverhead = 64
)

// fitting returns how many of rows, which have what of returns, fit into a page or message: at least one.
func fitting[R any](rows []R, of func(*R) *holding.Row) int {
	size := 0
	for i := range rows {
		// With the wallet's own fields in each row, which the message has once.
		size += proto.Size(groupWallets([]holding.Row{*of(&rows[i])})[0]) + holdingOverhead
		if size > maxHoldingsBytes && i > 0 {
			return i
		}
	}
	return len(rows)
}

// groupWallets groups rows, which are in order, by wallet.
func groupWallets(rows []holding.Row) []*walletv1.WalletHoldings {
	var out []*walletv1.WalletHoldings
	var last uuid.UUID
	for _, r := range rows {
		if len(out) == 0 || r.Wallet.ID != last {
			last = r.Wallet.ID
			out = append(out, &walletv1.WalletHoldings{
				WalletId: last.String(), Account: r.Wallet.Account.Display(), Sync: syncToProto(r.Wallet.Sync),
			})
		}
		if r.Balance != nil {
			w := out[len(out)-1]
			w.Holdings = append(w.Holdings, &walletv1.Holding{
				Balance: balanceToProto(*r.Balance), Price: quoteToProto(r.Quote),
			})
		}
	}
	return out
}
