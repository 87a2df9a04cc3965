package holdings

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"

	"github.com/purserhq/purser/pkg/errs"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/portfolio/internal/snapshot"
)

// shardSilence is how long the stream of a shard may send nothing.
const shardSilence = time.Minute

// ReadShard implements snapshot.ShardReader. One message and one owner are in memory.
func (r *Reader) ReadShard(ctx context.Context, shard, shards int, visit func(snapshot.OwnerHoldings) error) error {
	open := func(ctx context.Context) (grpc.ServerStreamingClient[walletv1.StreamHoldingsResponse], error) {
		return r.client.StreamHoldings(ctx, &walletv1.StreamHoldingsRequest{
			Shard: &walletv1.Shard{Number: int32(shard), Count: int32(shards)}})
	}
	s := shardOwner{visit: visit}
	var failed error
	err := receive(ctx, shardSilence, open, func(_ context.Context, m *walletv1.StreamHoldingsResponse) (bool, error) {
		for _, o := range m.GetOwners() {
			if failed = s.add(o, m.GetTokens(), m.GetPrices()); failed != nil {
				return false, failed
			}
		}
		return true, nil
	})
	var silent *silentError
	switch {
	case failed != nil:
		return failed
	case errors.Is(err, io.EOF):
		return s.finish()
	case errors.As(err, &silent):
		return errs.Unavailable("WALLET_UNAVAILABLE", "the wallet service sent nothing for "+shardSilence.String())
	}
	return unavailable(err)
}

// shardOwner is the owner whose holdings are being received: they may continue in the next
// message.
type shardOwner struct {
	visit   func(snapshot.OwnerHoldings) error
	id      uuid.UUID
	held    collected
	tooMany bool
}

func (s *shardOwner) add(o *walletv1.OwnerHoldings, tokens []*walletv1.Token, prices []*walletv1.Price) error {
	id, err := uuid.Parse(o.GetOwnerId())
	if err != nil {
		return errs.Internal(fmt.Errorf("owner_id %q of wallet: %w", o.GetOwnerId(), err))
	}
	if id != s.id {
		if err := s.finish(); err != nil {
			return err
		}
		*s = shardOwner{visit: s.visit, id: id}
	}
	if s.tooMany { // nothing more of them is kept
		return nil
	}
	if err := s.held.add(o.GetWallets(), tokens, prices); err != nil {
		return err
	}
	s.tooMany = len(s.held.holdings)+s.held.positions > maxHoldings
	return nil
}

func (s *shardOwner) finish() error {
	if s.id == uuid.Nil {
		return nil
	}
	return s.visit(snapshot.OwnerHoldings{Owner: s.id, Wallets: s.held.wallets, Holdings: s.held.all(),
		TooMany: s.tooMany})
}
