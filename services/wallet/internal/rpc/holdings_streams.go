package rpc

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/page"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/feed"
	"github.com/purserhq/purser/services/internal/streams"
	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/caip"
	"github.com/purserhq/purser/services/wallet/internal/holding"
	"github.com/purserhq/purser/services/wallet/internal/price"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

const (
	// maxWatchers bounds the streams of WatchChanges on one replica, maxWatchersPerCaller those of one caller.
	maxWatchers, maxWatchersPerCaller = 4000, 16
	// maxShardStreams and maxShardStreamsPerCaller are the same of StreamHoldings.
	maxShardStreams, maxShardStreamsPerCaller = 32, 16
	// shardSendTimeout is how long a message of StreamHoldings may wait for its reader.
	shardSendTimeout = time.Minute
	// shardPage is how many rows of a shard are read at once.
	shardPage = 1000
)

// hold begins a stream of the caller; end is deferred with the error of the method. errs.Exhausted.
func hold(ctx context.Context, pool *streams.Pool) (_ context.Context, end func(*error), err error) {
	return pool.Hold(ctx, authn.CallerFrom(ctx).UserID.String(), "streams")
}

// WatchChanges implements the RPC.
func (s *HoldingsServer) WatchChanges(req *walletv1.WatchChangesRequest,
	stream grpc.ServerStreamingServer[walletv1.WatchChangesResponse]) (err error) {
	filter, err := changeFilter(authn.CallerFrom(stream.Context()), req)
	if err != nil {
		return err
	}
	ctx, end, err := hold(stream.Context(), s.watchers)
	if err != nil {
		return err
	}
	defer end(&err)
	return s.changes.Watch(ctx, req.GetCursor(), filter, func(changes []feed.Change, cursor string) error {
		m := &walletv1.WatchChangesResponse{Cursor: cursor}
		for _, c := range changes {
			m.Changes = append(m.Changes, changeToProto(c))
		}
		return streams.Deliver(ctx, s.readerTimeout, func() error { return stream.Send(m) })
	})
}

// changeFilter returns what a caller asks for, if they may.
func changeFilter(caller authn.Caller, req *walletv1.WatchChangesRequest) (f feed.Filter, err error) {
	if req.GetShard() == nil {
		f.Owner, err = ownerOf(caller, req.GetOwnerId())
		return f, err
	}
	if err := checkWatch(req); err != nil {
		return f, err
	}
	if !caller.May(anyOwner) {
		return f, errs.PermissionDenied("PERMISSION_MISSING", "a shard has the changes of all owners and needs the "+
			"permission "+anyOwner+"; leave it out for your own").With("permission", anyOwner)
	}
	f.Shard, f.Shards = int(req.GetShard().GetNumber()), int(req.GetShard().GetCount())
	return f, nil
}

// checkWatch returns errs.Invalid with every mistake that the contract can't tell of.
func checkWatch(req *walletv1.WatchChangesRequest) error {
	var both error
	if req.GetShard() != nil && req.GetOwnerId() != "" {
		both = errs.Invalid("owner_id", "must be empty with a shard, which has all its owners, got "+req.GetOwnerId())
	}
	return errs.AllInvalid(feed.CheckCursor(req.GetCursor()), both, checkShard(req.GetShard()))
}

func checkShard(s *walletv1.Shard) error {
	if s != nil && s.GetCount() > 0 && s.GetNumber() >= s.GetCount() {
		return errs.Invalid("shard.number", fmt.Sprintf("must be less than shard.count, %d, got %d: shards are "+
			"numbered from 0", s.GetCount(), s.GetNumber()))
	}
	return nil
}

var changeKinds = map[string]walletv1.ChangeKind{
	wallet.Created:         walletv1.ChangeKind_CHANGE_KIND_WALLET_CREATED,
	wallet.Updated:         walletv1.ChangeKind_CHANGE_KIND_WALLET_UPDATED,
	wallet.Deleted:         walletv1.ChangeKind_CHANGE_KIND_WALLET_DELETED,
	wallet.BalancesChanged: walletv1.ChangeKind_CHANGE_KIND_BALANCES_CHANGED,
	wallet.OwnerErased:     walletv1.ChangeKind_CHANGE_KIND_OWNER_ERASED,
	wallet.PricesChanged:   walletv1.ChangeKind_CHANGE_KIND_PRICES_CHANGED,
	wallet.BlocksReplaced:  walletv1.ChangeKind_CHANGE_KIND_BLOCKS_REPLACED,
}

// changeToProto gives a change of a later release, which this one doesn't know, no kind.
func changeToProto(c feed.Change) *walletv1.Change {
	m := &walletv1.Change{Kind: changeKinds[c.Kind], ChangeTime: timestamppb.New(c.At)}
	if c.Owner != uuid.Nil {
		m.OwnerId = c.Owner.String()
	}
	if c.Subject != uuid.Nil {
		m.WalletId = c.Subject.String()
	}
	if c.Kind == wallet.BalancesChanged {
		m.BlockNumber = uint64(max(0, c.Version))
	}
	if r, err := price.ParseHourRange(c.Detail); c.Kind == wallet.PricesChanged && err == nil {
		m.TokenId, m.StartTime, m.EndTime = r.TokenID, timestamppb.New(r.From), timestamppb.New(r.Until)
	}
	if r, err := block.ParseReplaced(c.Detail); c.Kind == wallet.BlocksReplaced && err == nil {
		m.ChainId, m.StartTime, m.EndTime = caip.ChainID(r.Chain), timestamppb.New(r.Since), m.GetChangeTime()
	}
	return m
}

// StreamHoldings implements the RPC. One page of rows and one message of them are in memory.
func (s *HoldingsServer) StreamHoldings(req *walletv1.StreamHoldingsRequest,
	stream grpc.ServerStreamingServer[walletv1.StreamHoldingsResponse]) (err error) {
	if err := checkShard(req.GetShard()); err != nil {
		return err
	}
	caller, shard := authn.CallerFrom(stream.Context()), req.GetShard()
	query := page.NewQuery("StreamHoldings", caller.UserID.String(), fmt.Sprint(shard.GetNumber()),
		fmt.Sprint(shard.GetCount()))
	after, _, err := page.Parse[holding.ShardCursor](query, req.GetCursor())
	if err != nil || checkCursor(after.Token) != nil {
		return errs.Invalid("cursor", "must be the cursor of a message of the same caller and shard, or empty, "+
			errs.Given(req.GetCursor()))
	}
	ctx, end, err := hold(stream.Context(), s.shards)
	if err != nil {
		return err
	}
	defer end(&err)
	return s.streamShard(ctx, query, shard, after, stream.Send)
}

func (s *HoldingsServer) streamShard(ctx context.Context, query page.Query, shard *walletv1.Shard,
	after holding.ShardCursor, send func(*walletv1.StreamHoldingsResponse) error) error {
	for {
		rows, err := s.holdings.ListShard(ctx, int(shard.GetNumber()), int(shard.GetCount()), after, shardPage)
		if err != nil {
			return err
		}
		last := len(rows) < shardPage
		for len(rows) > 0 {
			held := newHoldingsPage()
			n := held.fill(rows)
			after = shardCursorOf(rows[n-1])
			m := &walletv1.StreamHoldingsResponse{Owners: held.owners, Tokens: byID(held.tokens),
				Prices: byID(held.prices)}
			if m.Cursor, err = page.Token(query, after); err != nil {
				return err
			}
			if err := streams.Deliver(ctx, shardSendTimeout, func() error { return send(m) }); err != nil {
				return err
			}
			rows = rows[n:]
		}
		if last {
			return nil
		}
	}
}

func shardCursorOf(r holding.Row) holding.ShardCursor {
	c := holding.ShardCursor{Owner: r.Wallet.Owner, Cursor: holding.Cursor{Wallet: r.Wallet.ID}}
	if r.Balance != nil {
		c.Token = r.Balance.Token.ID
	}
	return c
}
