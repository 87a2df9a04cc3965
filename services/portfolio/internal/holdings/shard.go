package holdings

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/portfolio/internal/snapshot"
)

// shardSilence is how long the stream of a shard may send nothing.
const shardSilence = time.Minute

// ReadShard implements snapshot.ShardReader. One message and one owner are in memory.
func (r *Reader) ReadShard(ctx context.Context, shard, shards int, visit func(snapshot.OwnerHoldings) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silent := time.AfterFunc(shardSilence, func() {
		cancel(errs.Unavailable("WALLET_UNAVAILABLE", "the wallet service sent nothing for "+shardSilence.String()))
	})
	defer silent.Stop()
	stream, err := r.client.StreamHoldings(ctx, &walletv1.StreamHoldingsRequest{
		Shard: &walletv1.Shard{Number: int32(shard), Count: int32(shards)}})
	if err != nil {
		return unavailable(err)
	}
	s := shardOwner{visit: visit}
	for {
		silent.Reset(shardSilence)
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return s.finish()
		}
		if err != nil {
			if cause := context.Cause(ctx); errs.Is(cause, errs.KindUnavailable) { // it was silent
				return cause
			}
			return unavailable(err)
		}
		silent.Stop() // what visit does is no silence of the wallet service
		for _, o := range m.GetOwners() {
			if err := s.add(o, m.GetTokens(), m.GetPrices()); err != nil {
				return err
			}
		}
	}
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
