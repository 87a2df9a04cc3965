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
		cancel(fmt.Errorf("no message came for %s", shardSilence))
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
			return unavailable(errors.Join(err, context.Cause(ctx)))
		}
		silent.Stop() // what visit does is no silence of the wallet service
		for _, o := range m.GetOwners() {
			if err := s.add(o); err != nil {
				return err
			}
		}
	}
}

// shardOwner is the owner whose holdings are being received: they may continue in the next
// message, and so may their last wallet.
type shardOwner struct {
	visit   func(snapshot.OwnerHoldings) error
	current snapshot.OwnerHoldings
	wallet  string
}

func (s *shardOwner) add(o *walletv1.OwnerHoldings) error {
	id, err := uuid.Parse(o.GetOwnerId())
	if err != nil {
		return errs.Internal(fmt.Errorf("owner_id %q of wallet: %w", o.GetOwnerId(), err))
	}
	if id != s.current.Owner {
		if err := s.finish(); err != nil {
			return err
		}
		s.current, s.wallet = snapshot.OwnerHoldings{Owner: id}, ""
	}
	for _, w := range o.GetWallets() {
		if w.GetWalletId() != s.wallet {
			s.wallet = w.GetWalletId()
			s.current.Wallets = append(s.current.Wallets, walletFromProto(w))
		}
		for _, h := range w.GetHoldings() {
			if len(s.current.Holdings) == maxHoldings {
				s.current.TooMany = true
				break
			}
			v, err := holdingFromProto(h)
			if err != nil {
				return err
			}
			s.current.Holdings = append(s.current.Holdings, v)
		}
	}
	return nil
}

func (s *shardOwner) finish() error {
	if s.current.Owner == uuid.Nil {
		return nil
	}
	return s.visit(s.current)
}
